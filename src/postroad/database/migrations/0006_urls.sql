-- Keys of IMAP URLs: of each user (reader) for each mailbox that he made URLs of.
CREATE TABLE url_key (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, reader INTEGER NOT NULL,
    key BLOB NOT NULL, PRIMARY KEY (account, mailbox, reader)
) WITHOUT ROWID;
CREATE INDEX url_key_reader ON url_key (reader);

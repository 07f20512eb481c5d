-- The search index: an accelerator; what it holds can be made anew from the messages.

-- block: the last number given out. Numbers are not given out again, for blocks never change.
CREATE TABLE search_account (account INTEGER PRIMARY KEY, block INTEGER NOT NULL);
-- Messages of the mailbox up to this UID have been looked at.
CREATE TABLE search_mark (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, uid INTEGER NOT NULL,
    PRIMARY KEY (account, mailbox)
) WITHOUT ROWID;
-- One section of one block (`store.search.blocks.Section`): those that are read together lie
-- together.
CREATE TABLE search_block (
    account INTEGER NOT NULL, section INTEGER NOT NULL, block INTEGER NOT NULL,
    octets BLOB NOT NULL, PRIMARY KEY (account, section, block)
) WITHOUT ROWID;

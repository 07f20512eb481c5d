-- What `postroad import` and `export` have done: which message of a place elsewhere (peer: a hash of
-- its name) is which message here, so that a second run adds only what is new.
-- item: folder and message as the place tells them apart. digest: SHA-256 of the octets, its first
-- half. flags: as they were over there when it was last looked at.
CREATE TABLE transfer (
    account INTEGER NOT NULL, peer INTEGER NOT NULL, item BLOB NOT NULL, digest BLOB NOT NULL,
    mailbox INTEGER NOT NULL, uid INTEGER NOT NULL, flags BLOB NOT NULL,
    PRIMARY KEY (account, peer, item)
) WITHOUT ROWID;
-- How far a folder over there has been gone through (JSON): its UIDVALIDITY, HIGHESTMODSEQ.
CREATE TABLE transfer_folder (
    account INTEGER NOT NULL, peer INTEGER NOT NULL, folder BLOB NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (account, peer, folder)
) WITHOUT ROWID;

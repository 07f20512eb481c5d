-- Which rows name a pack, or a file: compaction and the sweep ask. References sort by pack, so new
-- entries go to the end of their pack's range: a hot page.
CREATE INDEX content_blob ON content (blob);
DROP INDEX content_file;
CREATE INDEX queue_blob ON queue_message (blob);
DROP INDEX queue_file;

-- Accounts whose mail is sealed, or was: the data key, wrapped by the master key.
-- sealed: 1: what comes is sealed, 0: not any more. position: contents up to this heap address are
-- as `sealed` says; -1: all of them, now and to come.
CREATE TABLE account_key (
    account INTEGER PRIMARY KEY, wrapped BLOB NOT NULL, sealed INTEGER NOT NULL,
    position INTEGER NOT NULL, created INTEGER NOT NULL
);

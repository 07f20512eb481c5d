-- When a message came into its mailbox (unix seconds; RFC 8514). 0: before this was kept.
ALTER TABLE message ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;

-- What an account uses and may use. These stand beside modseq, which every change takes anyway.
-- A limit: NULL is the server's default, -1 is none. What can still be brought back is counted
-- apart, and no limit holds for it.
ALTER TABLE counter ADD COLUMN octets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN mailboxes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN removed_octets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN removed_messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counter ADD COLUMN octets_max INTEGER;
ALTER TABLE counter ADD COLUMN messages_max INTEGER;
ALTER TABLE counter ADD COLUMN mailboxes_max INTEGER;
-- What a migration leaves to be done in steps, while the server runs (database.backfill).
CREATE TABLE backfill (migration INTEGER PRIMARY KEY, position INTEGER NOT NULL);
INSERT INTO backfill VALUES (2, 0);
-- The server's defaults, -1 for none: written at start from the configuration.
CREATE TABLE quota_default (
    one INTEGER PRIMARY KEY CHECK (one = 1), octets_max INTEGER NOT NULL,
    messages_max INTEGER NOT NULL, mailboxes_max INTEGER NOT NULL
);
INSERT INTO quota_default VALUES (1, -1, -1, -1);

-- Messages that were expunged and can still be brought back: each names its content as a row of
-- `message` does. They go by time, so the oldest of an account stand first.
CREATE TABLE removed (
    account INTEGER NOT NULL, removed_at INTEGER NOT NULL, mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL, flags INTEGER NOT NULL, keywords BLOB NOT NULL,
    internal_date INTEGER NOT NULL, size INTEGER NOT NULL, heap INTEGER NOT NULL,
    saved INTEGER NOT NULL, PRIMARY KEY (account, removed_at, mailbox, uid)
) WITHOUT ROWID;
-- Mailboxes that were deleted, for as long as their messages.
CREATE TABLE removed_mailbox (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, removed_at INTEGER NOT NULL,
    name TEXT NOT NULL, special_use TEXT NOT NULL, subscribed INTEGER NOT NULL,
    PRIMARY KEY (account, mailbox)
) WITHOUT ROWID;

-- Accounts that were removed and whose mail is still being cleared away (directory.leaving).
CREATE TABLE leaving (account INTEGER PRIMARY KEY);

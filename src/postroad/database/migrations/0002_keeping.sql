-- When a message came into its mailbox (unix seconds; RFC 8514). 0: before this was kept.
ALTER TABLE message ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;

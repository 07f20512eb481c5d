-- Of content that was copied from another account: the heap address of the first of its line, which
-- is what the message is known by (RFC 8474 §5.1). 0: its own.
ALTER TABLE content ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;

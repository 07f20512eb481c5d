-- Every table of user data begins its key with the account: an account can be moved as a range.

-- Names of domains are A-labels in lower case; addresses are `Address.key`.
CREATE TABLE domain (
    name TEXT PRIMARY KEY, tenant TEXT NOT NULL, created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE signing_key (
    domain TEXT NOT NULL, selector TEXT NOT NULL, algorithm TEXT NOT NULL, pem BLOB NOT NULL,
    public TEXT NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (domain, selector)
) WITHOUT ROWID;
CREATE TABLE account (
    account INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, domain TEXT NOT NULL,
    name TEXT NOT NULL, created INTEGER NOT NULL
);
CREATE INDEX account_domain ON account (domain, created, account);
CREATE TABLE credential (
    account INTEGER PRIMARY KEY, argon2 TEXT NOT NULL, scram_sha_256 TEXT NOT NULL
);
-- Of accounts that were removed: an account of the same name begins above this.
CREATE TABLE former_account (
    address TEXT PRIMARY KEY, uidvalidity INTEGER NOT NULL
) WITHOUT ROWID;
-- targets: one address a line.
CREATE TABLE alias (
    address TEXT PRIMARY KEY, domain TEXT NOT NULL, targets TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX alias_domain ON alias (domain);

-- The last number given out of each kind; these never fall while the account lives.
CREATE TABLE counter (
    account INTEGER PRIMARY KEY, modseq INTEGER NOT NULL, mailbox INTEGER NOT NULL,
    uidvalidity INTEGER NOT NULL
);
CREATE TABLE mailbox (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, name TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL, uidnext INTEGER NOT NULL, highestmodseq INTEGER NOT NULL,
    messages INTEGER NOT NULL, unseen INTEGER NOT NULL, deleted INTEGER NOT NULL,
    size INTEGER NOT NULL, first_recent INTEGER NOT NULL, special_use TEXT NOT NULL,
    PRIMARY KEY (account, mailbox)
) WITHOUT ROWID;
CREATE UNIQUE INDEX mailbox_name ON mailbox (account, name);
CREATE TABLE subscription (
    account INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (account, name)
) WITHOUT ROWID;
-- word: as first used in the mailbox; folded: in lower case.
CREATE TABLE keyword (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, folded BLOB NOT NULL, word BLOB NOT NULL,
    PRIMARY KEY (account, mailbox, folded)
) WITHOUT ROWID;

-- keywords: sorted, separated by spaces; x'' when there are none.
CREATE TABLE message (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL, flags INTEGER NOT NULL, keywords BLOB NOT NULL,
    internal_date INTEGER NOT NULL, size INTEGER NOT NULL, heap INTEGER NOT NULL,
    PRIMARY KEY (account, mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX message_change ON message (account, mailbox, modseq);
-- One row is a run of UIDs that left in one operation.
CREATE TABLE expunged (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, modseq INTEGER NOT NULL,
    low INTEGER NOT NULL, high INTEGER NOT NULL, PRIMARY KEY (account, mailbox, modseq, low)
) WITHOUT ROWID;

-- The content heap: written once, never changed, addressed by rows of `message`. AUTOINCREMENT:
-- an address is never given out again, so an old one finds nothing and recovery knows what is new.
CREATE TABLE content (
    heap INTEGER PRIMARY KEY AUTOINCREMENT, account INTEGER NOT NULL, blob TEXT NOT NULL,
    head BLOB NOT NULL, sent INTEGER NOT NULL, envelope BLOB NOT NULL, body BLOB NOT NULL,
    bodystructure BLOB NOT NULL, structure BLOB NOT NULL, preview TEXT NOT NULL,
    header BLOB NOT NULL
);
-- Blobs that are files of their own (`f...`), few: the sweep asks whether a file is still named.
CREATE INDEX content_file ON content (blob) WHERE blob >= 'f' AND blob < 'g';
-- Content that several messages name (copies): how many beyond the first.
CREATE TABLE shared (
    account INTEGER NOT NULL, heap INTEGER NOT NULL, extra INTEGER NOT NULL,
    PRIMARY KEY (account, heap)
) WITHOUT ROWID;

-- What a message id has already done: a unit that comes again after a lost answer does it once.
-- Message ids sort by time, so new rows go to the end. account 0: it was enqueued.
CREATE TABLE delivery (
    message TEXT NOT NULL, account INTEGER NOT NULL, mailbox INTEGER NOT NULL,
    uidvalidity INTEGER NOT NULL, uid INTEGER NOT NULL, modseq INTEGER NOT NULL,
    PRIMARY KEY (message, account)
) WITHOUT ROWID;

CREATE TABLE queue_message (
    number INTEGER PRIMARY KEY AUTOINCREMENT, message TEXT NOT NULL UNIQUE, blob TEXT NOT NULL,
    size INTEGER NOT NULL, reverse_path TEXT NOT NULL, body TEXT NOT NULL,
    smtputf8 INTEGER NOT NULL, ret TEXT, envid TEXT, account INTEGER NOT NULL,
    accepted INTEGER NOT NULL, expires INTEGER NOT NULL, head BLOB NOT NULL
);
CREATE INDEX queue_file ON queue_message (blob) WHERE blob >= 'f' AND blob < 'g';
CREATE TABLE queue_recipient (
    message TEXT NOT NULL, recipient INTEGER NOT NULL, path TEXT NOT NULL, domain TEXT NOT NULL,
    notify TEXT NOT NULL, orcpt TEXT, tries INTEGER NOT NULL, next_attempt INTEGER NOT NULL,
    last_attempt INTEGER NOT NULL, last_reply TEXT NOT NULL, last_remote TEXT NOT NULL,
    attempting INTEGER NOT NULL, PRIMARY KEY (message, recipient)
) WITHOUT ROWID;
-- records: MessagePack array of [unix time, JSON octets].
CREATE TABLE history (
    number INTEGER PRIMARY KEY, message TEXT NOT NULL, at REAL NOT NULL, records BLOB NOT NULL
);
CREATE INDEX history_message ON history (message);

-- Rows of `content` and `queue_message` up to these numbers have durable octets.
CREATE TABLE durable (
    one INTEGER PRIMARY KEY CHECK (one = 1), content INTEGER NOT NULL, queued INTEGER NOT NULL
);
INSERT INTO durable VALUES (1, 0, 0);

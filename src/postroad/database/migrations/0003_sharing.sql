-- Who else may use a mailbox, and what was noted about it.

-- rights: letters of RFC 4314. grantee: an account, or 0 for everybody of the owner's tenant, which
-- then stands in `tenant` (else ''). negative 1: rights that are taken away.
CREATE TABLE access (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, grantee INTEGER NOT NULL,
    negative INTEGER NOT NULL, tenant TEXT NOT NULL, rights TEXT NOT NULL,
    PRIMARY KEY (account, mailbox, grantee, negative)
) WITHOUT ROWID;
CREATE INDEX access_grantee ON access (grantee, tenant, account, mailbox);

-- Accounts whose mailboxes are the site's rather than a person's. rights: what everybody has on a
-- mailbox that is made at the top.
CREATE TABLE public_account (
    account INTEGER PRIMARY KEY, tenant TEXT NOT NULL, label TEXT NOT NULL, rights TEXT NOT NULL
);
CREATE UNIQUE INDEX public_label ON public_account (tenant, label);

-- Accounts that may set the quotas of their tenant.
CREATE TABLE administrator (account INTEGER PRIMARY KEY);

-- What another than the owner has seen of a mailbox: runs of UIDs, both ends of which exist; in
-- between UIDs may be missing. reader.seen counts the messages in them.
CREATE TABLE seen (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, reader INTEGER NOT NULL,
    low INTEGER NOT NULL, high INTEGER NOT NULL, PRIMARY KEY (account, mailbox, reader, low)
) WITHOUT ROWID;
CREATE TABLE reader (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, reader INTEGER NOT NULL,
    seen INTEGER NOT NULL, PRIMARY KEY (account, mailbox, reader)
) WITHOUT ROWID;
CREATE INDEX reader_reader ON reader (reader);

-- RFC 5464. mailbox 0: of the server; account 0: of the site. reader: whose /private, or 0 for
-- /shared. entry: in lower case, its scope included.
CREATE TABLE annotation (
    account INTEGER NOT NULL, mailbox INTEGER NOT NULL, reader INTEGER NOT NULL,
    entry TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (account, mailbox, reader, entry)
) WITHOUT ROWID;

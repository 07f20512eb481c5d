-- Verifier of SCRAM-SHA-1; '' for passwords set before it was kept.
ALTER TABLE credential ADD COLUMN scram_sha_1 TEXT NOT NULL DEFAULT '';

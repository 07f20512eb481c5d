"""The words every other package speaks: addresses, envelopes, replies, flags, limits, ids."""

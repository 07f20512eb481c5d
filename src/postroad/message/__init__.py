"""Messages as octets: header, parts by offset, summaries for readers; composing what we add."""

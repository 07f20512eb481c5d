"""POP3 as a plain object: lines to commands, order, and the framing of answers."""

"""Where a protocol core meets a stream."""

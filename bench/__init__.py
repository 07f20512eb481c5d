"""Side-by-side benchmarks with Debian's postfix and dovecot: `make bench`, `python -m bench -h`."""

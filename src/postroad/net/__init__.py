"""The only home of sockets, TLS, time and dice."""

"""DNS in the words of mail: names, records, the Resolver port, an in-memory zone."""

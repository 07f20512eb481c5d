"""Who is here: tenants, domains, accounts, aliases, credentials, keys."""

"""Who sent this? SPF, DKIM and DMARC: algorithms that ask a handed-in Resolver and nothing else.

`spf` says whether a host may use a domain, `dkim` whether a domain signed a message, `dmarc`
whether either is the domain that readers see, and what it wants done when not.
"""

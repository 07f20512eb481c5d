"""DMARC: is the domain that the reader sees the domain that was authenticated?

Source: RFC 9989 (tree walk); records written for RFC 7489 are read.
"""

from postroad.mailauth.dmarc.check import DMARCResult, check_dmarc
from postroad.mailauth.dmarc.record import Policy

__all__ = ["DMARCResult", "Policy", "check_dmarc"]

"""SPF: may this host send for that domain?

Source: RFC 7208, RFC 8616 §4 (EAI).
"""

from postroad.mailauth.spf.check import SPFResult, check_spf

__all__ = ["SPFResult", "check_spf"]

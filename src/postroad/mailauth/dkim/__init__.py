"""DKIM: signing and verifying.

Source: RFC 6376, RFC 8301 (algorithms and key sizes), RFC 8463 (Ed25519), RFC 8616 (EAI).
"""

from postroad.mailauth.dkim.keys import DKIMSigner, generate_key, load_key
from postroad.mailauth.dkim.signing import sign
from postroad.mailauth.dkim.verifying import DKIMResult, verify_dkim

__all__ = ["DKIMResult", "DKIMSigner", "generate_key", "load_key", "sign", "verify_dkim"]

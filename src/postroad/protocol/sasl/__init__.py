"""SASL: the mechanisms, server and client side, as plain objects that own no socket and no dice.

A server mechanism is fed the client's messages (already base64-decoded by the protocol that
carries them) and says what comes next; nonces, verifiers and channel binding data are handed in.
Cancelling (`*`) is the carrying protocol's.
"""

from postroad.protocol.sasl.bearer import OAuthBearerServer, XOAuth2Server
from postroad.protocol.sasl.carriage import decode_initial, decode_response, encode_challenge
from postroad.protocol.sasl.external import ExternalServer
from postroad.protocol.sasl.login import LoginClient, LoginServer
from postroad.protocol.sasl.mechanism import (
    Challenge,
    Fault,
    IdentityClaim,
    PasswordClaim,
    Proven,
    ServerMechanism,
    TokenClaim,
    VerifierWanted,
)
from postroad.protocol.sasl.plain import PlainClient, PlainServer
from postroad.protocol.sasl.prep import saslprep
from postroad.protocol.sasl.scram import ScramClient, ScramServer, ScramVerifier, derive_verifier

__all__ = [
    "Challenge",
    "ExternalServer",
    "Fault",
    "IdentityClaim",
    "LoginClient",
    "LoginServer",
    "OAuthBearerServer",
    "PasswordClaim",
    "PlainClient",
    "PlainServer",
    "Proven",
    "ScramClient",
    "ScramServer",
    "ScramVerifier",
    "ServerMechanism",
    "TokenClaim",
    "VerifierWanted",
    "XOAuth2Server",
    "decode_initial",
    "decode_response",
    "derive_verifier",
    "encode_challenge",
    "saslprep",
]

"""TLS contexts and certificates.

Between mail servers a certificate nobody checks is better than none: an opportunistic client
takes what it is shown (RFC 7435 §3), from TLS 1.2 on (RFC 9325 §3.1.1). To people's clients the
server offers TLS 1.2 and 1.3 (RFC 8314 §4).

Knows no socket. Certificates and keys come from the operator, and are trusted to be his.
Source: RFC 5929 §4.1 (tls-server-end-point), RFC 9325 §3 and §4, RFC 5280 §4.2.1.6.
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SELF_SIGNED_LIFETIME = timedelta(days=3650)
TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL"
"""RFC 9325 §4.2: forward secrecy and AEAD only."""
OPPORTUNISTIC_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE:DHE:HIGH:!eNULL:!MD5:!RC4:!3DES:@SECLEVEL=0"
)
"""RFC 7435 §3: for a peer that knows nothing better, an old cipher and a short key are better than
plaintext; level 0 takes the 1024-bit certificates that still stand in front of old servers."""
LEGACY_SERVER_CONNECT = 0x4
"""OpenSSL's, named by Python from 3.12 on: takes servers without RFC 5746; nobody renegotiates."""


class ServerContext(ssl.SSLContext):
    """A server's context that knows its certificate.

    end_point: tls-server-end-point data of it; None where RFC 5929 leaves it undefined.
    not_after: aware UTC; when the certificate ends.
    """

    end_point: bytes | None = None
    not_after: datetime | None = None


def end_point_of(certificate: bytes) -> bytes | None:
    """tls-server-end-point of a DER certificate: its hash by its signature's own hash function.

    MD5 and SHA-1 are replaced by SHA-256; None when the signature has no hash function of its own
    (Ed25519). Source: RFC 5929 §4.1.
    """
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if algorithm is None:
        return None
    name = algorithm.name
    if name in ("md5", "sha1"):
        name = "sha256"
    return hashlib.new(name, certificate).digest()


def server_context(certificate: Path, key: Path | None = None) -> ServerContext:
    """A server's context from PEM files; call again to reload.

    certificate: the chain, the server's own first. key: None when it stands in the same file.

    Raises: OSError (unreadable), ValueError (not PEM, or certificate and key do not belong
    together), each naming the files.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 §2
    context.set_ciphers(TLS12_CIPHERS)
    context.options |= (
        ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    pem = certificate.read_bytes()
    if key is not None:
        key.open("rb").close()
    try:
        # an encrypted key is refused: OpenSSL would ask the terminal for its words, and wait
        context.load_cert_chain(certificate, key, password="")
        own = x509.load_pem_x509_certificates(pem)[0]
    except (ssl.SSLError, ValueError) as error:
        files = f"{certificate}" + (f" and {key}" if key else "")
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"certificate and key cannot be used ({reason}): {files}") from error
    context.end_point = end_point_of(own.public_bytes(serialization.Encoding.DER))
    context.not_after = own.not_valid_after_utc
    return context


def client_service_context(
    certificate: Path, key: Path | None, authorities: Path | None
) -> ServerContext:
    """The context of services for people's clients: as `server_context`; with `authorities` (PEM)
    it also asks for a client certificate, and takes one of these authorities only.

    Raises: OSError, ValueError, each naming the files.
    """
    context = server_context(certificate, key)
    if authorities is not None:
        try:
            context.load_verify_locations(cafile=authorities)
        except ssl.SSLError as error:
            raise ValueError(f"no certificates in {authorities}: {error.reason}") from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def addresses_of(certificate: bytes) -> list[str]:
    """The mail addresses that a DER certificate was issued for (RFC 5280 §4.2.1.6, RFC 8550 §3)."""
    try:
        found = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return []
    return found.value.get_values_for_type(x509.RFC822Name)


def opportunistic_context() -> ssl.SSLContext:
    """A client's context that checks nothing: what meets a mail server without a TLS policy.

    Departs: RFC 9325 §4.2 and §4.5 by older cipher suites and shorter keys, since the alternative
    here is plaintext.
    Source: RFC 7435 §3, RFC 3207 §4.1.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(OPPORTUNISTIC_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | LEGACY_SERVER_CONNECT
    return context


def verifying_context(authorities: Path | None = None) -> ssl.SSLContext:
    """A client's context that demands a certificate for the name it dials.

    authorities: PEM file of trusted roots; None: the system's.
    """
    context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def self_signed(
    names: Sequence[str], *, now: datetime | None = None, lifetime: timedelta = SELF_SIGNED_LIFETIME
) -> tuple[bytes, bytes]:
    """(certificate, key) as PEM, P-256: what a server shows until it has a real certificate.

    names: host names (A-labels) and IP addresses; the first is the subject.
    """
    if not names:
        raise ValueError("a certificate needs a name")
    moment = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + lifetime)
        .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )

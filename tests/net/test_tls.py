"""Contexts and certificates."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from postroad.net.tls import end_point_of, opportunistic_context, self_signed, server_context
from support.streams import streams, write_certificate


def certificate(key: object, algorithm: object) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.one.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, algorithm)  # type: ignore[arg-type]
    )
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")],
)
def test_end_point_hashes_with_the_signature_s_own_function(algorithm: object, name: str) -> None:
    """RFC 5929 §4.1."""
    der = certificate(ec.generate_private_key(ec.SECP256R1()), algorithm)
    assert end_point_of(der) == hashlib.new(name, der).digest()


def test_end_point_of_other_signatures() -> None:
    rsa_key = rsa.generate_private_key(65537, 2048)
    der = certificate(rsa_key, hashes.SHA256())
    assert end_point_of(der) == hashlib.sha256(der).digest()
    assert end_point_of(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None
    assert end_point_of(b"nonsense") is None


def test_sha1_and_md5_become_sha256(monkeypatch: pytest.MonkeyPatch) -> None:
    """New ones cannot be signed here; what matters is the name of the function."""

    class Old:
        class signature_hash_algorithm:
            name = "sha1"

    monkeypatch.setattr("postroad.net.tls.x509.load_der_x509_certificate", lambda octets: Old)
    assert end_point_of(b"old") == hashlib.sha256(b"old").digest()
    Old.signature_hash_algorithm.name = "md5"
    assert end_point_of(b"old") == hashlib.sha256(b"old").digest()


def test_self_signed_certificates_name_hosts_and_addresses() -> None:
    pem, key = self_signed(["mx.one.example", "one.example", "127.0.0.1", "::1"])
    made = x509.load_pem_x509_certificate(pem)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.one.example", "one.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert b"PRIVATE KEY" in key and made.not_valid_after_utc > datetime.now(UTC) + timedelta(3000)
    with pytest.raises(ValueError, match="name"):
        self_signed([])


def test_a_reload_gives_a_context_of_the_new_certificate(tmp_path: Path) -> None:
    paths = write_certificate(tmp_path, "a.example")
    first = server_context(*paths)
    write_certificate(tmp_path, "b.example")
    second = server_context(*paths)
    assert first.end_point and second.end_point and first.end_point != second.end_point
    assert second.not_after is not None and second.not_after > datetime.now(UTC)
    both = tmp_path / "both.pem"
    both.write_bytes(paths[0].read_bytes() + paths[1].read_bytes())
    assert server_context(both).end_point == second.end_point


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    certificate_path, key_path = write_certificate(tmp_path)
    with pytest.raises(OSError, match="missing"):
        server_context(tmp_path / "missing.pem", key_path)
    with pytest.raises(OSError, match="missing"):
        server_context(certificate_path, tmp_path / "missing.pem")
    other = tmp_path / "other"
    other.mkdir()
    _, wrong_key = write_certificate(other)
    with pytest.raises(ValueError, match="cannot be used"):
        server_context(certificate_path, wrong_key)
    certificate_path.write_text("no certificate")
    with pytest.raises(ValueError, match=str(certificate_path)):
        server_context(certificate_path, key_path)


def test_contexts_leave_old_tls_behind(tmp_path: Path) -> None:
    for context in (server_context(*write_certificate(tmp_path)), opportunistic_context()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        names = {cipher["name"] for cipher in context.get_ciphers()}
        assert not any("NULL" in name or "RC4" in name or "EXP" in name for name in names)
    assert opportunistic_context().verify_mode is ssl.CERT_NONE


def test_opportunistic_clients_take_what_old_servers_have(tmp_path: Path) -> None:
    """A 1024-bit key and no forward secrecy: still better than plaintext (RFC 7435 §3)."""
    key = rsa.generate_private_key(65537, 1024)
    path = tmp_path / "old.pem"
    path.write_bytes(
        ssl.DER_cert_to_PEM_cert(certificate(key, hashes.SHA256())).encode()
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.set_ciphers("AES256-SHA256:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(path)

    async def main() -> None:
        client, server = streams()
        await asyncio.gather(
            client.start_tls_client(opportunistic_context(), None), server.start_tls_server(old)
        )
        assert client.tls is not None and client.tls.cipher == "AES256-SHA256"
        assert not client.tls.peer_verified and server.channel_binding() is None
        client.abort()
        server.abort()

    asyncio.run(main())

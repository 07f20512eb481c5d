"""curl logs in with a token of an issuer, and with a certificate, as its users do."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from joserfc import jwt
from joserfc.jwk import ECKey

from postroad.lab.process import PostroadServer
from support.programs import needs, run
from support.world import World

pytestmark = [pytest.mark.interop, needs("curl", "curl")]

USER = "ann@issued.example"
KEY = ECKey.generate_key("P-256", {"kid": "one"})


class Issuer(http.server.BaseHTTPRequestHandler):
    """Describes itself and its key."""

    def do_GET(self) -> None:
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        answers: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
            "/keys": {"keys": [KEY.as_dict(private=False)]},
        }
        octets = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    thread.join(5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The PEM files of the authority, and of a certificate for the user with its key."""
    folder = tmp_path_factory.mktemp("authority")
    made = trustme.CA()
    made.cert_pem.write_to_path(str(folder / "ca.pem"))
    made.issue_cert(USER).private_key_and_cert_chain_pem.write_to_path(str(folder / "ann.pem"))
    return folder / "ca.pem", folder / "ann.pem"


@pytest.fixture(scope="module")
def server(
    shared_world: World, issuer: str, authority: tuple[Path, Path]
) -> Iterator[PostroadServer]:
    made = shared_world.server(
        "issued.example", address="127.0.0.1", workers=1,
        options=(
            ("oauth", "issuer", json.dumps(issuer)),
            ("oauth", "audience", '"postroad"'),
            ("tls", "client_authorities", json.dumps(str(authority[0]))),
        ),
    )  # fmt: skip
    made.add_account(USER, "never said")
    made.start()
    yield made
    assert made.stop() == 0, made.log_end()


def token(issuer: str, **changes: object) -> str:
    claims = {"iss": issuer, "aud": "postroad", "email": USER, "exp": int(time.time()) + 600}
    return jwt.encode({"alg": "ES256", "kid": "one"}, claims | changes, KEY)


def curl(server: PostroadServer, scheme: str, *options: str) -> tuple[int, bytes]:
    url = f"{scheme}://127.0.0.1:{server.port(scheme)}/"
    done = run(["curl", "-sSk", "-m", "20", url, *options], expect=None)
    return done.returncode, done.stdout


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token_opens_the_mailboxes(server: PostroadServer, issuer: str, mechanism: str) -> None:
    options = ("-u", USER, "--login-options", f"AUTH={mechanism}")
    code, listed = curl(server, "imaps", *options, "--oauth2-bearer", token(issuer))
    assert code == 0 and b"INBOX" in listed
    code, _ = curl(server, "pop3s", *options, "--oauth2-bearer", token(issuer))
    assert code == 0
    code, _ = curl(server, "imaps", *options, "--oauth2-bearer", token(issuer, aud="other"))
    assert code == 67, "curl: login denied"


def test_a_certificate_opens_the_mailboxes(
    server: PostroadServer, authority: tuple[Path, Path]
) -> None:
    options = ("-u", f"{USER}:", "--login-options", "AUTH=EXTERNAL")
    code, listed = curl(server, "imaps", *options, "--cert", str(authority[1]))
    assert code == 0 and b"INBOX" in listed
    code, _ = curl(server, "imaps", *options)
    assert code == 67, "without a certificate EXTERNAL is not there"

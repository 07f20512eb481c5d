"""Everything that would be imported late, imported now: before root is given up.

The interpreter, its library and this package may lie where the server's user cannot read, as in a
clone below /root. Costs a quarter of a second, and only servers that start as root pay it.
"""

from __future__ import annotations

import encodings
import importlib
import pkgutil

import postroad
from postroad.database.schema import migrations
from postroad.directory.passwords import DECOY_ARGON2, verify_password
from postroad.mail.secret import Secret

_TOKENS = "postroad.net.oidc"
_NOT_SERVED = (
    "postroad.lab",
    _TOKENS,
    "postroad.app.commands",
    "postroad.app.cli",
    "postroad.__main__",
)
_LATE_IN_LIBRARIES = (
    "concurrent.futures.thread",
    "asyncio.base_subprocess",
    "importlib.util",
    "snowballstemmer",
    "stringprep",
    "zipfile",
)
_ELSEWHERE = frozenset({"mbcs", "oem"})
"""Codecs of another system."""


def preload(*, tokens: bool = False) -> None:
    """This package without its commands, every codec a message may name, the tables' SQL.

    tokens: what an issuer is asked with, too.
    """
    if tokens:
        importlib.import_module(_TOKENS)
    for module in pkgutil.walk_packages(postroad.__path__, "postroad."):
        if not module.name.startswith(_NOT_SERVED):
            importlib.import_module(module.name)
    for name in _LATE_IN_LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.iter_modules(encodings.__path__, "encodings."):
        if module.name.partition(".")[2] not in _ELSEWHERE:
            importlib.import_module(module.name)
    migrations()
    verify_password(DECOY_ARGON2, Secret("any"))  # argon2 and its bindings come with the first use

"""Each floor imports only floors below it; the cores own no socket, no clock, no dice."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import postroad

ROOT = Path(postroad.__file__).parent

FLOORS = {
    "mail": 0.0,
    "message": 0.1,
    "dns": 0.1,
    "trace": 0.1,
    "protocol": 1.0,
    "mailauth": 1.0,
    "database": 2.0,
    "directory": 2.2,
    "store": 2.2,
    "queue": 2.3,
    "policy": 3.0,
    "delivery": 3.1,
    "net": 4.0,
    "service": 5.0,
    "admin": 5.1,
    "app": 6.0,
    "lab": 7.0,
}
"""Rank of each package. Equal ranks do not import each other; a higher one may import a lower."""

WORDS = {("directory", "store.values"), ("store", "directory.values")}
"""Neighbours that share words (values), not behaviour."""

PORTS = "postroad.net.contract"
"""What a lower floor is handed (Stream, Dialer, Clock) may be named in its types."""

FORBIDDEN_IN_CORES = {
    "asyncio",
    "socket",
    "ssl",
    "time",
    "random",
    "secrets",
    "threading",
    "select",
}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """(module, line, whether only for type checking) of every import in the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in ast.walk(node):
                typing_only.add(child)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, node in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the floor"
            name = node.module or ""
            for alias in node.names:
                full = f"{name}.{alias.name}"
                is_module = (ROOT.parent / (full.replace(".", "/") + ".py")).exists() or (
                    ROOT.parent / full.replace(".", "/")
                ).is_dir()
                found.append((full if is_module else name, node.lineno, node in typing_only))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    if package not in FLOORS:
        assert path.name in {"__init__.py", "__main__.py"}, f"{package} is on no floor"
        return
    for name, line, typing_only in imports(path):
        where = f"{path.relative_to(ROOT)}:{line} imports {name}"
        if not name.startswith("postroad."):
            continue
        target = name.split(".")[1]
        if target == package or target.startswith("__"):
            continue
        if name == PORTS and typing_only:
            continue
        if (package, ".".join(name.split(".")[1:3])) in WORDS:
            continue
        assert FLOORS[target] < FLOORS[package], f"{where}, which is not below it"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_low_floors_have_no_clock_and_no_socket(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    if FLOORS.get(package, 9.0) >= 2.0:
        return
    for name, line, typing_only in imports(path):
        top = name.split(".")[0]
        if typing_only:
            continue
        assert top not in FORBIDDEN_IN_CORES, f"{path.relative_to(ROOT)}:{line} imports {name}"


def test_the_floors_name_real_packages() -> None:
    for package in FLOORS:
        assert (ROOT / package / "__init__.py").exists(), package


def test_an_upward_import_would_be_seen(tmp_path: Path) -> None:
    module = tmp_path / "bad.py"
    module.write_text("from postroad.service.site import Site\n", encoding="utf-8")
    assert imports(module) == [("postroad.service.site", 1, False)]
    assert FLOORS["mail"] < FLOORS["service"]

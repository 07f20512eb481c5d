"""Makes the pages that are generated: configuration.md, commands.md, limits.md, standards.md.

`--check` exits 1 when a kept page (all but the last) is not what would be made; standards.md, which
changes with every citation, is not kept and always written.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from pathlib import Path

import click

from postroad.app.cli import program as command
from postroad.app.reference import render_reference
from postroad.mail import limits

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CITED = re.compile(r"RFC (\d{3,4})")


def standards() -> str:
    """docs/standards.md: the rows of standards.toml with the files that cite each RFC."""
    files: dict[str, set[str]] = {}
    source = ROOT / "src" / "postroad"
    for path in sorted(source.rglob("*.py")):
        for number in CITED.findall(path.read_text(encoding="utf-8")):
            files.setdefault(number, set()).add(str(path.relative_to(source)))
    with (DOCS / "standards.toml").open("rb") as file:
        rows = tomllib.load(file)
    out = [
        "# Standards",
        "",
        "<!-- Made by tools/generate_docs.py from standards.toml; edit that. -->",
        "",
        "*done*: what the RFC asks of a server like this one; *partly*: the note says what is not;",
        "*later*: not there; *declined*: will not be, the note says why.",
        "",
        "| RFC | | status | note | read in |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, row in sorted(rows.items(), key=lambda item: int(item[0].removeprefix("rfc"))):
        number = key.removeprefix("rfc")
        cited = sorted(files.get(number, ()))
        where = ", ".join(f"`{name}`" for name in cited[:4])
        if len(cited) > 4:
            where += f" and {len(cited) - 4} more"
        note = row.get("note", "")
        out.append(f"| {number} | {row['title']} | {row['status']} | {note} | {where} |")
    return "\n".join(out) + "\n"


def describe(group: click.Command, path: str, out: list[str]) -> None:
    context = click.Context(group, info_name=path)
    text = group.get_help(context)
    out += [f"## `{path}`", "", "```", text, "```", ""]
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            child = group.get_command(context, name)
            if child is not None and not child.hidden:
                describe(child, f"{path} {name}", out)


def commands() -> str:
    """docs/commands.md: what `--help` says, of every command."""
    out = [
        "# Commands",
        "",
        "<!-- Made by tools/generate_docs.py from the commands' own --help. -->",
        "",
    ]
    describe(command, "postroad", out)
    return "\n".join(out).rstrip() + "\n"


def bounds() -> str:
    """docs/limits.md, from the constants of mail/limits.py and the reasons beside them."""
    module = ast.parse((ROOT / "src/postroad/mail/limits.py").read_text(encoding="utf-8"))
    out = [
        "# Limits",
        "",
        "<!-- Made by tools/generate_docs.py from src/postroad/mail/limits.py; edit that. -->",
        "",
        "Every bound that a peer can meet, with its reason. Those an operator may set are in",
        "[Configuration](configuration.md), under `[limits]`.",
        "",
        "| bound | value | reason |",
        "| --- | --: | --- |",
    ]
    body = module.body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        reason = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            reason = " ".join(str(after.value.value).split())
        out.append(f"| `{name}` | {getattr(limits, name):,} | {reason} |")
    return "\n".join(out) + "\n"


KEPT = {
    "limits.md": bounds,
    "configuration.md": render_reference,
    "commands.md": commands,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = 0
    (DOCS / "standards.md").write_text(standards(), encoding="utf-8")
    for name, make in KEPT.items():
        page = DOCS / name
        text = make()
        if page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"docs/{name} is not current: python tools/generate_docs.py", file=sys.stderr)
            stale += 1
        else:
            page.write_text(text, encoding="utf-8")
            print(f"docs/{name}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

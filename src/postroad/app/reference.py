"""The configuration's two readable forms, made from its types: the reference page, and the
commented file that `postroad init` writes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from postroad.app.config import sections

_WIDTH = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of the file. default: in TOML, "" when it is unset, None when it is required."""

    name: str
    kind: str
    default: str | None
    description: str


def keys(section: type[msgspec.Struct]) -> list[Key]:
    made = []
    for field in msgspec.structs.fields(section):
        info = msgspec.inspect.type_info(field.type)
        made.append(
            Key(
                name=field.encode_name,
                kind=_kind(info),
                default=_default(field),
                description=_description(field.type),
            )
        )
    return made


def render_reference() -> str:
    """docs/configuration.md."""
    out = [
        "# Configuration",
        "",
        "<!-- Made by tools/generate_docs.py from src/postroad/app/config.py; edit that. -->",
        "",
        "One TOML file, named with `-c FILE`, by the environment variable `POSTROAD_CONFIG`, or",
        "`postroad.toml` in the current directory. `postroad init` writes one with every key in",
        "it. An unknown key is an error; `postroad config check` finds it without starting",
        "anything. Relative paths start at the directory of the file.",
        "",
        "On `SIGHUP` the running server reads the file again: certificates and everything but",
        "`[server]` and `[listen]` take effect at once; for those two it must be restarted.",
    ]
    for name, section in sections().items():
        out += ["", f"## `[{name}]`", "", _first_paragraph(section), ""]
        out += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for key in keys(section):
            default = {None: "required", "": "unset"}.get(key.default) or f"`{key.default}`"
            text = key.description.replace("|", "\\|")
            out.append(f"| `{key.name}` | {key.kind} | {default} | {text} |")
    return "\n".join(out) + "\n"


def render_file(values: Mapping[tuple[str, str], Any]) -> str:
    """A commented configuration file in which (section, key) has the given value; every other
    key stands there as a comment with its default."""
    out = ["# Postroad's configuration. Reference: docs/configuration.md"]
    out.append("# Check it after a change: postroad config check; then reload: kill -HUP.")
    for name, section in sections().items():
        out += ["", "", f"# {_first_paragraph(section)}", f"[{name}]"]
        for key in keys(section):
            out.append("")
            out += [f"# {line}" for line in textwrap.wrap(key.description, _WIDTH)]
            if (name, key.name) in values:
                out.append(f"{key.name} = {toml_value(values[name, key.name])}")
            else:
                out.append(f"# {key.name} = {key.default or '...'}")
    return "\n".join(out) + "\n"


def toml_value(value: Any) -> str:
    """One line of TOML for a plain value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # a JSON string is a TOML basic string
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    raise TypeError(f"no TOML for {type(value).__name__}")


def _default(field: msgspec.structs.FieldInfo) -> str | None:
    if field.required:
        return None
    return "" if field.default is None else toml_value(field.default)


def _description(annotation: Any) -> str:
    texts = [item.description for item in get_args(annotation) if isinstance(item, msgspec.Meta)]
    return next(text for text in texts if text)


def _first_paragraph(section: type[msgspec.Struct]) -> str:
    return " ".join((section.__doc__ or "").split("\n\n")[0].split())


def _kind(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.Metadata(type=inner):
            return _kind(inner)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(_kind(t) for t in types if not _is_none(t))
        case msgspec.inspect.VarTupleType(item_type=item):
            return f"list of {_kind(item)}"
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in sorted(values, key=str))
        case msgspec.inspect.IntType():
            return "integer"
        case msgspec.inspect.FloatType():
            return "number"
        case msgspec.inspect.BoolType():
            return "boolean"
        case _:
            return "string"


def _is_none(info: msgspec.inspect.Type) -> bool:
    return isinstance(info, msgspec.inspect.NoneType)

"""Drafts of recipes, and their serialisation as TOML."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.sources.recipes.enums import FieldType

_COMMON = frozenset({"www", "api", "com", "org", "net", "co", "v1", "v2", "v3", "index", "html"})


@dataclass(frozen=True, slots=True)
class RecipeDraft:
    """A drafted recipe.

    `fields`: path and type by column. `paginate`: the keys and values of that table.
    `remarks`: comments for the author, written at the top of the file.
    """

    name: str
    kind: str
    url: str
    every: str = "1h"
    records: str | None = None
    fields: Mapping[str, tuple[str, FieldType]] = field(
        default_factory=dict[str, tuple[str, FieldType]]
    )
    key: tuple[str, ...] = ()
    paginate: Mapping[str, str | int] = field(default_factory=dict[str, str | int])
    remarks: tuple[str, ...] = ()


def source_name(url: str) -> str:
    """Return a source name made of the URL's distinctive words."""
    parts = urlsplit(url)
    words = re.findall(r"[a-z0-9]+", f"{parts.hostname or ''}/{parts.path}".lower())
    distinctive = [word for word in words if word not in _COMMON and not word.isdigit()]
    name = "-".join(dict.fromkeys(distinctive[:4]))[:50].strip("-")
    return name if name[:1].isalpha() else f"source-{name}".strip("-")


def to_toml(draft: RecipeDraft) -> str:
    lines = [f"# {remark}" for remark in draft.remarks]
    lines += [f"{name} = {_value(getattr(draft, name))}" for name in ("name", "kind", "url")]
    lines += ["", "[schedule]", f"every = {_value(draft.every)}"]
    if draft.paginate:
        lines += ["", "[paginate]"]
        lines += [f"{name} = {_value(value)}" for name, value in draft.paginate.items()]
    if draft.fields:
        lines += ["", "[extract]"]
        lines += [f"records = {_value(draft.records)}"] if draft.records else []
        lines += ["", "[extract.fields]"]
        lines += [f"{name} = {_field(*field)}" for name, field in draft.fields.items()]
    if draft.key:
        key = draft.key[0] if len(draft.key) == 1 else list(draft.key)
        lines += ["", "[store]", f"key = {_value(key)}"]
    return "\n".join(lines) + "\n"


def _field(path: str, kind: FieldType) -> str:
    if kind is FieldType.STRING:
        return _value(path)
    return f"{{ path = {_value(path)}, type = {_value(kind.value)} }}"


def _value(value: str | int | list[str]) -> str:
    # A JSON value is a TOML value, except that TOML requires DEL to be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Loading of recipes from TOML. Every fault is reported with its line, key, problem and fix."""

import re
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.core.errors import BadRecipe, RollcallError
from app.core.validation import fault_sentence, suggestion
from app.sources.recipes.auth_blocks import Auth
from app.sources.recipes.model import (
    Expect,
    PageColumn,
    Recipe,
    RecipeColumn,
    RecipeFreshness,
    Records,
)
from app.sources.recipes.paging_blocks import Paginate
from app.sources.recipes.parameters import KeyPath
from app.sources.recipes.semantic_faults import semantic_faults
from app.sources.recipes.toml_lines import line_of

MAX_RECIPE_LENGTH = 40_000  # characters
MAX_KEY_PARTS = 12  # parts of a key
MAX_FAULTS = 50

_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?>{_PART}){{{MAX_KEY_PARTS}}}")


@dataclass(frozen=True, slots=True)
class RecipeFault:
    """One fault of a recipe.

    `line`: counted from 1. `key`: dotted, empty if the fault concerns the whole recipe.
    `problem`: what is wrong. `fix`: how to fix it, empty if not known.
    """

    line: int
    key: str
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}: {self.key}: " if self.key else f"line {self.line}: "
        return f"{where}{self.problem}" + (f" ({self.fix})" if self.fix else "")


def load(text: str, *, checked: bool = False) -> Recipe:
    """Return the recipe in a TOML text. Raises BadRecipe, whose `faults` lists all faults.

    `checked`: its expressions were checked before, and are not compiled again.
    """
    try:
        values = tomllib.loads(_bounded(text))
    except (ValueError, RecursionError) as error:  # an integer may have too many digits
        raise _refused([_syntax(text, error)]) from None
    return load_values(values, text, checked=checked)


def load_values(values: dict[str, Any], text: str = "", *, checked: bool = False) -> Recipe:
    """Return the recipe in parsed TOML; `text` is for line numbers. Raises BadRecipe."""
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False)[:MAX_FAULTS]
        faults = [_shape_fault(text, each) for each in errors]
        raise _refused(faults) from None
    except (RollcallError, RecursionError) as error:
        raise _refused([RecipeFault(1, "", str(error) or "is nested too deeply")]) from None
    found = () if checked else islice(semantic_faults(recipe), MAX_FAULTS)
    faults = [
        RecipeFault(line_of(text, at), _key(at), *_split_fix(message)) for at, message in found
    ]
    if faults:
        raise _refused(faults)
    return recipe


def secret_references(recipe: Recipe) -> dict[str, KeyPath]:
    """Return the secret references (`env:NAME`, `secret:NAME`) of a recipe and their key paths."""
    if recipe.auth is None:
        return {}
    fields = recipe.auth.model_dump()
    return {
        value: ("auth", key)
        for key, value in fields.items()
        if key in ("token", "value", "password", "client_secret")
    }


def disallowed_secrets(recipe: Recipe, allowed: str, text: str = "") -> list[RecipeFault]:
    """Return a fault for each secret reference not of the kind `allowed`: `env` or `secret`."""
    owner = "the operator's environment" if allowed == "secret" else "an organisation's store"
    return [
        RecipeFault(line_of(text, at), _key(at), f"{name} is in {owner}", f"write {allowed}:NAME")
        for name, at in secret_references(recipe).items()
        if not name.startswith(f"{allowed}:")
    ]


def unset_secrets(recipe: Recipe, known: Collection[str], text: str = "") -> list[RecipeFault]:
    """Return a fault for each secret that the recipe references and `known` does not contain."""
    fix = "set it with PUT /collection/secrets/{}"
    return [
        RecipeFault(
            line_of(text, at), _key(at), f"{name} is not set", fix.format(name[len("secret:") :])
        )
        for name, at in secret_references(recipe).items()
        if name.removeprefix("secret:") not in known
    ]


def _bounded(text: str) -> str:
    if len(text) > MAX_RECIPE_LENGTH:
        fault = RecipeFault(
            1, "", f"is longer than {MAX_RECIPE_LENGTH:,} characters", "split it into two sources"
        )
        raise _refused([fault])
    # tomllib takes time quadratic in the number of parts of a key.
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.start()) + 1
        problem = f"has a key of more than {MAX_KEY_PARTS} parts"
        raise _refused([RecipeFault(line, "", problem, "use fewer parts, or quote the text")])
    return text


def _refused(faults: Iterable[RecipeFault]) -> BadRecipe:
    listed = sorted(faults, key=lambda fault: fault.line)[:MAX_FAULTS]
    return BadRecipe(listed)


def _syntax(text: str, error: Exception) -> RecipeFault:
    message = str(error)
    before, _, place = message.rpartition(" (at line ")
    line = place.partition(",")[0]
    if line.isdigit():
        column = place.partition("column ")[2].rstrip(")")
        return RecipeFault(
            int(line), "", f"is not valid TOML: {before}", f"look at column {column}"
        )
    at_end = max(1, len(text.splitlines()))
    problem = message.partition(" (at")[0] or "nested too deeply"
    return RecipeFault(at_end, "", f"is not valid TOML: {problem}")


# Faults of the shape, as reported by pydantic


def _shape_fault(text: str, error: ErrorDetails) -> RecipeFault:
    where = _without_tag(error["loc"])
    message = fault_sentence(error)
    match error["type"]:
        case "missing" | "union_tag_not_found":
            wanted = where if error["type"] == "missing" else (*where, "type")
            return RecipeFault(line_of(text, wanted), _key(wanted), "is missing", _example(wanted))
        case "union_tag_invalid":
            at = (*where, "type")
            fix = f"write one of {', '.join(_tags(where[0]))}"
            return RecipeFault(line_of(text, at), _key(at), "is not known", fix)
        case "extra_forbidden":
            fix = _suggestion(where, _model_at(error["loc"][:-1]))
            return RecipeFault(line_of(text, where), _key(where), "is not known here", fix)
        case "value_error":
            return RecipeFault(line_of(text, where), _key(where), *_split_fix(message))
        case _:
            return RecipeFault(line_of(text, where), _key(where), _plain(message), _actual(error))


_TAGS = frozenset({"auth", "paginate"})


def _without_tag(loc: tuple[int | str, ...]) -> KeyPath:
    """Return pydantic's location without the tag that it adds after a block with a `type`."""
    place = loc[:1] + loc[2:] if loc and loc[0] in _TAGS and len(loc) > 1 else loc
    return tuple(part for part in place if part != "[key]")


_EXAMPLES = {
    "name": 'add name = "my-source"',
    "kind": 'add kind = "json", "feed" or "html"',
    "url": 'add url = "https://…"',
    "max_pages": "add max_pages = 10: pagination needs a limit",
    "key": 'add key = "id": the columns that identify a row',
    "path": "add path: where the value is in a record",
}


def _example(where: KeyPath) -> str:
    if where and where[-1] == "type":
        known = _tags(where[0])
        return f"add type = one of {', '.join(known)}"
    return _EXAMPLES.get(str(where[-1]) if where else "", "add it")


def _tags(block: str | int) -> list[str]:
    return [_tag(kind) for kind in _union_members(Auth if block == "auth" else Paginate)]


def _union_members(union: Any) -> tuple[type[BaseModel], ...]:
    return union.__origin__.__args__


def _tag(kind: type[BaseModel]) -> str:
    literal: Any = kind.model_fields["type"].annotation
    return str(literal.__args__[0])


def _suggestion(where: KeyPath, model: type[BaseModel] | None) -> str:
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    return suggestion(str(where[-1]) if where else "", known) if known else "remove it"


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    if not loc:
        return Recipe
    if "fields" in loc:
        return RecipeColumn
    if loc[0] == "columns":
        return PageColumn
    union = {"auth": Auth, "paginate": Paginate}.get(str(loc[0]))
    if union is not None:
        return next((k for k in _union_members(union) if len(loc) > 1 and _tag(k) == loc[1]), None)
    model: Any = Recipe.model_fields[str(loc[0])].annotation
    arguments = [a for a in getattr(model, "__args__", ()) if isinstance(a, type)]
    model = next(iter(arguments), model)
    if len(loc) > 1 and isinstance(model, type) and issubclass(model, Expect):
        return {"records": Records, "fresh": RecipeFreshness}.get(str(loc[1]))
    return cast("type[BaseModel]", model) if _is_block(model) else None


def _is_block(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]


def _actual(error: ErrorDetails) -> str:
    value = error["input"]
    if isinstance(value, str | int | float | bool):
        return f"it is {str(value)[:60]!r}"
    return f"it is a {type(value).__name__}"


def _split_fix(message: str) -> tuple[str, str]:
    problem, _, fix = message.rpartition("; ")
    return (problem, fix) if problem else (message, "")


def _key(where: KeyPath) -> str:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text

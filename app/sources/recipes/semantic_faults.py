"""Faults across the keys of a recipe: what is valid by itself, and not beside the rest. Pure."""

import re
from collections.abc import Iterator
from typing import Any

from app.core.enums import StoreMode
from app.core.errors import RollcallError
from app.core.validation import suggestion
from app.sources.recipes import expressions, templates
from app.sources.recipes.enums import FieldType, Missing, RecipeKind
from app.sources.recipes.model import FEED_COLUMNS, Recipe, RecipeColumn
from app.sources.recipes.parameters import KeyPath, repeated_names, unsendable_headers


def semantic_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Yield the faults across keys of a recipe with a valid shape, each with its key path."""
    yield from _kind_faults(recipe)
    yield from _expression_faults(recipe)
    yield from _column_faults(recipe)
    yield from _placeholder_faults(recipe)
    yield from _incremental_faults(recipe)
    yield from repeated_names(recipe)
    yield from unsendable_headers(recipe)


def _kind_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    if recipe.extract.container is not None and recipe.kind is not RecipeKind.HTML:
        yield ("extract", "container"), "is for html only; in json, records names the list"
    if recipe.kind is RecipeKind.FEED:
        if recipe.paginate.type not in ("none", "link_header", "page"):
            yield ("paginate", "type"), "does not work with a feed; use none, link_header or page"
        return
    if recipe.schedule.auto:
        yield ("schedule", "every"), 'can be "auto" only for feeds; write "15m"'
    if not recipe.extract.fields:
        yield ("extract", "fields"), 'are missing; write [extract.fields] and id = "id"'
    if recipe.extract.records is None and recipe.kind is RecipeKind.HTML:
        yield ("extract", "records"), "is missing; write a selector that finds one element per row"
    if recipe.store is None:
        yield ("store",), 'is missing; write [store] and key = "id"'


def _expression_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    check = expressions.check_jmespath
    if recipe.kind is RecipeKind.HTML:
        from app.sources.recipes import selectors  # noqa: PLC0415 - lxml, only if needed

        check = selectors.check_selector
    extract, paginate = recipe.extract, recipe.paginate
    texts: dict[KeyPath, str | None] = {
        ("extract", "records"): extract.records,
        ("extract", "explode"): extract.explode,
        ("extract", "container"): extract.container,
        ("paginate", "path"): getattr(paginate, "path", None),
        ("paginate", "total"): paginate.total,
        ("paginate", "has_more"): paginate.has_more,
        ("paginate", "end_when"): paginate.end_when,
    }
    texts |= {
        ("columns", name): column.path
        for name, column in recipe.columns.items()
        if column.value is None
    }
    texts |= {("extract", "fields", name): field.path for name, field in extract.fields.items()}
    for where, text in texts.items():
        yield from _check(where, text, check)
    if recipe.kind is RecipeKind.HTML and (extract.explode or "").startswith("/"):
        yield ("extract", "explode"), "searches the whole page for every record; begin it with ./"
    for where, column in _typed_columns(recipe):
        yield from _check((*where, "match"), column.match, expressions.check_regex)
    for name, field in extract.fields.items():
        at = ("extract", "fields", name)
        if recipe.kind is RecipeKind.HTML and field.path.startswith("/"):
            yield at, "searches the whole page for every row; begin it with ./"


def _check(where: KeyPath, text: str | None, check: Any) -> Iterator[tuple[KeyPath, str]]:
    try:
        if text is not None:
            check(text)
    except ValueError as error:
        yield where, str(error)


def _column_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    known = _columns(recipe)
    for where, name in _column_references(recipe):
        if name not in known:
            fix = suggestion(name, sorted(known))
            yield where, f"names {name!r}, which is not a field; {fix}"
    for where, field in _typed_columns(recipe):
        timed = field.type in (FieldType.DATETIME, FieldType.DATE)
        if (field.format or field.timezone) and not timed:
            yield where, f"is a {field.type}; format and timezone are for datetime and date"
        if timed and field.format and not _has_year(field.format):
            yield (*where, "format"), "has no year, which would be guessed; add %Y, or leave it out"
        if field.timezone:
            yield from _zone_faults((*where, "timezone"), field.timezone)


def _has_year(layout: str) -> bool:
    if layout in ("unix", "unix_ms"):
        return True
    return any(one in ("%Y", "%y", "%G", "%c", "%x") for one in re.findall("%.", layout))


def _zone_faults(where: KeyPath, name: str) -> Iterator[tuple[KeyPath, str]]:
    from app.scheduling.cron import check_zone  # noqa: PLC0415 - loaded on first use

    try:
        check_zone(name)
    except RollcallError as error:
        yield where, f"{error}; write an IANA name such as Europe/Berlin"


def _columns(recipe: Recipe) -> frozenset[str]:
    """Return the names of the columns of the recipe's rows."""
    fields = frozenset(recipe.extract.fields)
    if recipe.kind is RecipeKind.FEED and not fields:
        fields = frozenset(FEED_COLUMNS)
    return fields | frozenset(recipe.columns)


def _typed_columns(recipe: Recipe) -> Iterator[tuple[KeyPath, RecipeColumn]]:
    yield from ((("extract", "fields", n), field) for n, field in recipe.extract.fields.items())
    yield from ((("columns", name), column) for name, column in recipe.columns.items())


def _column_references(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    if recipe.store is not None:
        yield from ((("store", "key"), name) for name in recipe.store.key)
        yield from ((("store", "ignore_changes"), name) for name in recipe.store.ignore_changes)
    yield from ((("expect", "not_null"), name) for name in recipe.expect.not_null)
    if recipe.expect.fresh is not None:
        yield ("expect", "fresh", "field"), recipe.expect.fresh.field
    if recipe.incremental is not None and recipe.incremental.field is not None:
        yield ("incremental", "field"), recipe.incremental.field


def _placeholder_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    known = recipe.placeholders
    used: set[str] = set()
    for where, text in recipe.templates.items():
        used |= templates.placeholder_names(text)
        for name in sorted(templates.placeholder_names(text) - known):
            fix = f"known: {', '.join(sorted(known))}" if known else "name it in request.each"
            yield where, f"has the unknown placeholder {{{name}}}; {fix}"
    each = recipe.request.each
    partition_names = frozenset(each[0] if each else ())
    for name, column in recipe.columns.items():
        for unknown in sorted(templates.placeholder_names(column.value or "") - partition_names):
            yield ("columns", name), f"has the unknown placeholder {{{unknown}}}; name it in each"
        if name in recipe.extract.fields:
            yield ("columns", name), "is also in extract.fields; remove one of the two"
    if each and not used & set(each[0]):
        yield ("request", "each"), "fills no {placeholder}; add one to url or params"


def _incremental_faults(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    incremental, store = recipe.incremental, recipe.store
    if incremental is not None and store is not None and store.missing is Missing.MARK:
        yield ("store", "missing"), "cannot be detected by an incremental source; write keep"
    if store is not None and store.missing is Missing.MARK and recipe.paginate.enough:
        problem = "cannot be detected if stopping at max_pages is enough; write keep"
        yield ("store", "missing"), problem
    if store is not None and store.missing is Missing.MARK and store.mode is not StoreMode.UPSERT:
        yield ("store", "missing"), 'works only with mode = "upsert"; write keep'
    if incremental is not None and incremental.overlap and incremental.format == "plain":
        yield ("incremental", "overlap"), 'has no effect with format = "plain"; remove one of them'
    if incremental is not None and incremental.param is None:
        used = frozenset[str]().union(*map(templates.placeholder_names, recipe.templates.values()))
        if "since" not in used:
            yield ("incremental",), 'has no effect; write param = "since", or use {since} in url'

"""A recipe as a source: what every source is, so that the spine need not know the difference."""

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, cast

import msgspec

from app.errors import Expression, Failure, HttpStatus, Incomplete, Schema, TooLarge
from app.messages import Limits, Partition, Raw, Request
from app.recipes.incremental import since
from app.recipes.model import Recipe
from app.recipes.paging import Asker, identity
from app.recipes.reading import Pages, Reading, Row
from app.recipes.words import Missing
from app.records import Item, Record, Rejected

WHOLE = "all"  # the partition of a source that has only one
PRIVATE = {"auth", "http", "limits", "retry", "expect", "incremental", "request"}  # not for reading


class Errand(msgspec.Struct):
    """A page to be read, as the process is told that reads it."""

    recipe: bytes
    body: bytes
    url: str
    headers: dict[str, str]
    first: bool
    at: datetime


class Answer(msgspec.Struct):
    """What became of it. `failure`: the kind of it and what it says."""

    reading: Reading | None = None
    failure: tuple[str, str] | None = None


@dataclass(frozen=True)
class RecipeSource:
    """One recipe, ready to be asked.

    `cursors`: up to where each partition has been read. `owner`: whose it is, as text; empty for
    the house. Two owners' sources of one name share nothing.
    """

    recipe: Recipe
    cursors: Mapping[str, str] = field(default_factory=dict[str, str])
    owner: str = ""

    @property
    def name(self) -> str:
        """See Source."""
        return self.recipe.name

    @property
    def limits(self) -> Limits:
        """See Source."""
        said = self.recipe.limits
        return Limits(said.rate, said.burst, said.concurrency)

    @property
    def marks_missing(self) -> bool:
        """Whether what a whole listing lacks is to be marked."""
        return self.recipe.kept.missing is Missing.MARK

    @cached_property
    def _pages(self) -> Pages:
        return Pages(self.recipe)

    @cached_property
    def wording(self) -> bytes:
        """The recipe as far as reading a page goes; another wording reads another way."""
        told = self.recipe.model_dump(mode="json", by_alias=True, exclude=PRIVATE, exclude_none=True)
        return msgspec.json.encode(told, order="deterministic")

    @cached_property
    def reader(self) -> str:
        """What tells this wording of this owner's recipe from every other."""
        return hashlib.sha256(self.owner.encode() + b"\n" + self.wording).hexdigest()[:32]

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """One for each member of `request.each`."""
        return [Partition(key) for key in self._values]
        yield  # a generator, as every source's is

    def pages(self, part: Partition) -> Generator[Request, Raw, int | Incomplete | None]:
        """See Source. Pages that repeat themselves, and more than `max_pages`, end it as such."""
        asker = self._asker(part)
        request: Request | None = asker.first()
        asked = {identity(request)}
        contents: dict[bytes, int] = {}
        number, seen, total = 0, 0, None
        while request is not None:
            try:
                raw = yield request
            except HttpStatus as failure:
                if number and failure.status == HTTPStatus.NOT_FOUND:
                    return total  # some sites say it so that there are no more pages
                raise
            number += 1
            reading = self._reading(raw, first=number == 1)
            seen += reading.records
            total = reading.total if reading.total is not None else total
            again = contents.setdefault(_content(raw, reading), number)
            if again != number:
                return Incomplete(f"page {number} is page {again} again: the site does not page so")
            request = asker.following(number, seen, raw, reading)
            if request is None:
                return total
            if identity(request) in asked:
                return Incomplete(f"after page {number} comes one that was had: paging in a circle")
            asked.add(identity(request))
            if number >= self.recipe.paginate.max_pages:
                enough = self.recipe.paginate.enough
                return None if enough else Incomplete(f"there is more than max_pages = {number}")
        return total

    def parse(self, raw: Raw) -> Iterable[Record]:
        """See Source."""
        reading = self._reading(raw, first=raw.page == 1)
        kept = self.recipe.kept
        ignore = tuple(kept.ignore_changes)
        for row in reading.rows:
            yield Item(self.name, row.key, row.data, kept.mode, ignore)
        for refusal in reading.refused:
            yield Rejected(refusal.reason, refusal.data, refusal.key)

    def errand(self, raw: Raw) -> bytes:
        """See Apart."""
        headers = {n: raw.headers[n] for n in TELLING if n in raw.headers}
        first = raw.page == 1
        told = Errand(self.wording, raw.body, raw.url, headers, first, raw.fetched_at)
        return msgspec.msgpack.encode(told)

    def returned(self, raw: Raw, answer: bytes) -> Raw:
        """See Apart."""
        told = _answer.decode(answer)
        if told.reading is None:
            kind, message = told.failure or ("", "the page could not be read")
            failure = _FAILURES.get(kind, Schema)
            raise failure(message, status=raw.status, url=raw.url)
        return replace(raw, reading=told.reading)

    def _reading(self, raw: Raw, *, first: bool) -> Reading:
        if isinstance(raw.reading, Reading):
            return raw.reading
        return self._pages.read(
            raw.body, url=raw.url, headers=raw.headers, first=first, now=raw.fetched_at
        )

    @cached_property
    def _values(self) -> dict[str, Mapping[str, str]]:
        each = self.recipe.request.each
        if not each:
            return {WHOLE: {}}
        return {_named(values): values for values in each}

    def _asker(self, part: Partition) -> Asker:
        values = dict(self._values[part.key])
        incremental = self.recipe.incremental
        if incremental is None:
            return Asker(self.recipe, values, self.reader)
        value = since(incremental, self.cursors.get(part.key))
        params = ((incremental.param, value),) if incremental.param and value else ()
        return Asker(self.recipe, values | {"since": value or ""}, self.reader, params)


TELLING = ("content-type", "cache-control", "age", "expires", "date", "retry-after")
_FAILURES: Mapping[str, type[Failure]] = {
    kind.kind.value: kind for kind in (Schema, Expression, TooLarge)
}
_answer = msgspec.msgpack.Decoder(Answer)


def answered(told: bytes, pages: dict[bytes, Pages]) -> bytes:
    """Do an errand, in the process that reads pages. `pages`: of recipes met before; grows."""
    errand = msgspec.msgpack.decode(told, type=Errand)
    try:
        reading = _opened(errand.recipe, pages).read(
            errand.body,
            url=errand.url,
            headers=errand.headers,
            first=errand.first,
            now=errand.at.astimezone(UTC),
        )
        return msgspec.msgpack.encode(Answer(reading))
    except Failure as failure:
        return msgspec.msgpack.encode(Answer(failure=(failure.kind.value, str(failure)[:2_000])))
    except Exception as error:  # noqa: BLE001 - whatever it was, it is said, and one page's fault
        what = f"the page could not be read: {type(error).__name__}: {error}"
        return msgspec.msgpack.encode(Answer(failure=("schema", what[:2_000])))


MOST_RECIPES = 64


def _opened(wording: bytes, pages: dict[bytes, Pages]) -> Pages:
    if wording not in pages:
        if len(pages) >= MOST_RECIPES:
            pages.clear()
        told = cast("dict[str, Any]", msgspec.json.decode(wording))
        pages[wording] = Pages(Recipe.model_validate(told))
    return pages[wording]


def _named(values: Mapping[str, str]) -> str:
    text = " ".join(values.values()).strip() or "-"
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= 200 else hashlib.sha256(shown.encode()).hexdigest()


def _content(raw: Raw, reading: Reading) -> bytes:
    """What a page says. Two without a row are the same only if they are so to the letter."""
    if not reading.rows:
        return hashlib.sha256(raw.body).digest()
    rows: list[Row] = reading.rows
    return hashlib.sha256(msgspec.json.encode([row.data for row in rows])).digest()

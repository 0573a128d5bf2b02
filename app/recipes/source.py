"""A recipe as a source: what every source is, so that the spine need not know the difference."""

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import msgspec

from app.errors import Expression, Failure, HttpStatus, Incomplete, Schema, TooLarge
from app.messages import Limits, Partition, Raw, Request
from app.recipes.incremental import since
from app.recipes.model import Recipe
from app.recipes.paging import Asker
from app.recipes.reading import Pages, Reading
from app.recipes.walk import Walk
from app.recipes.words import Missing
from app.records import Item, Record, Rejected

LONGEST_PART = 200  # characters of a partition's name
STRANGERS = Limits(rate=5, burst=10, concurrency=4)  # as hard as an organisation may ask a host
OWN = "recipe:"  # what the names of organisations' sources begin with; no built-in one's does
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
    the house. Two owners' sources of one name share nothing. `paces`: seconds after which each
    partition is worth asking again; a feed's are filled in as it is read. `malformed`: what was
    wrong with feeds that were read all the same, by partition.
    """

    recipe: Recipe
    cursors: Mapping[str, str] = field(default_factory=dict[str, str])
    owner: str = ""
    paces: dict[str, float] = field(default_factory=dict[str, float])
    malformed: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """See Source. An organisation's is told from a built-in one by how it begins."""
        return f"{OWN}{self.recipe.name}" if self.owner else self.recipe.name

    @property
    def window(self) -> str:
        """The name of its window: another owner's source of this name has another."""
        return f"{self.name}@{self.owner}" if self.owner else self.name

    @property
    def limits(self) -> Limits:
        """See Source."""
        said = self.recipe.limits
        own = Limits(said.rate, said.burst, said.concurrency)
        if not self.owner:
            return own
        return Limits(*map(min, astuple(own), astuple(STRANGERS)))

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
        told = self.recipe.model_dump(
            mode="json", by_alias=True, exclude=PRIVATE, exclude_none=True
        )
        return msgspec.json.encode(told)

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
        walk = Walk(self._asker(part))
        request: Request | None = walk.first()
        while request is not None:
            try:
                raw = yield request
            except HttpStatus as failure:
                if walk.past_the_end(failure):
                    break
                raise
            reading = self._reading(raw, first=walk.number == 0)
            if reading.malformed is not None:
                self.malformed[part.key] = reading.malformed
            request = walk.after(raw, reading)
        if walk.interval is not None:
            self.paces[part.key] = walk.interval
        return walk.promised()

    def parse(self, raw: Raw) -> Iterable[Record]:
        """See Source."""
        reading = self._reading(raw, first=raw.page == 1)
        kept = self.recipe.kept
        ignore = tuple(kept.ignore_changes)
        part = raw.partition.key if raw.partition else WHOLE
        for row in reading.rows:
            yield Item(self.name, row.key, row.data, kept.mode, ignore, part)
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
    return shown if len(shown) <= LONGEST_PART else hashlib.sha256(shown.encode()).hexdigest()

"""The source that a recipe describes. The collector treats it like any other source."""

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import msgspec

from app.core.errors import Expression, Failure, HttpStatus, Incomplete, Schema, TooLarge
from app.core.messages import Limits, Partition, Raw, Request
from app.core.records import Item, Record, Rejected
from app.sources.recipes.enums import Missing
from app.sources.recipes.incremental import since
from app.sources.recipes.model import Recipe
from app.sources.recipes.paging import Asker
from app.sources.recipes.reading import Pages, Reading
from app.sources.recipes.walk import Walk

LONGEST_PART = 200  # characters of a partition key
STRANGERS = Limits(rate=5, burst=10, concurrency=4)  # upper bound for sources of organisations
OWN = "recipe:"  # prefix of the names of organisations' sources; no other source has it
WHOLE = "all"  # partition key of a source with a single partition
PRIVATE = {
    "auth",
    "http",
    "limits",
    "retry",
    "expect",
    "incremental",
    "request",
}  # recipe fields that reading a page does not need


class Errand(msgspec.Struct):
    """A request to the sandbox process: read this page.

    `recipe`: JSON of the recipe. `first`: whether it is the first page. `at`: when it was fetched.
    """

    recipe: bytes
    body: bytes
    url: str
    headers: dict[str, str]
    first: bool
    at: datetime


class Answer(msgspec.Struct):
    """The result of an Errand: a reading, or a failure as its kind and message."""

    reading: Reading | None = None
    failure: tuple[str, str] | None = None


@dataclass(frozen=True)
class RecipeSource:
    """The source of one recipe.

    `cursors`: incremental cursor of each partition. `owner`: id of the organisation that owns the
    recipe, empty for the operator's; sources of two owners share nothing, even with equal names.
    `paces`: seconds after which each partition of a feed is worth requesting again, filled in as
    pages are read. `malformed`: what is wrong with feeds that could still be read, by partition.
    """

    recipe: Recipe
    cursors: Mapping[str, str] = field(default_factory=dict[str, str])
    owner: str = ""
    paces: dict[str, float] = field(default_factory=dict[str, float])
    malformed: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """See Source. Names of organisations' sources have a prefix."""
        return f"{OWN}{self.recipe.name}" if self.owner else self.recipe.name

    @property
    def window(self) -> str:
        """The name of its fetcher, which is unique to the owner."""
        return f"{self.name}@{self.owner}" if self.owner else self.name

    @property
    def limits(self) -> Limits:
        """See Source."""
        limits = self.recipe.limits
        own = Limits(limits.rate, limits.burst, limits.concurrency)
        if not self.owner:
            return own
        return Limits(*map(min, astuple(own), astuple(STRANGERS)))

    @property
    def marks_missing(self) -> bool:
        """Whether stored rows that are absent from a complete listing are marked as missing."""
        return self.recipe.kept.missing is Missing.MARK

    @cached_property
    def _pages(self) -> Pages:
        return Pages(self.recipe)

    @cached_property
    def wording(self) -> bytes:
        """JSON of the parts of the recipe that decide how a page is read."""
        fields = self.recipe.model_dump(
            mode="json", by_alias=True, exclude=PRIVATE, exclude_none=True
        )
        return msgspec.json.encode(fields)

    @cached_property
    def reader(self) -> str:
        """A digest of the owner and `wording`: pages with an equal digest are read alike."""
        return hashlib.sha256(self.owner.encode() + b"\n" + self.wording).hexdigest()[:32]

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """Return one partition for each member of `request.each`. Requests nothing."""
        return [Partition(key) for key in self._values]
        yield  # unreachable; makes this a generator

    def pages(self, part: Partition) -> Generator[Request, Raw, int | Incomplete | None]:
        """See Source. Repeated pages, or more than `max_pages`, end the partition as Incomplete."""
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
        request = Errand(self.wording, raw.body, raw.url, headers, first, raw.fetched_at)
        return msgspec.msgpack.encode(request)

    def returned(self, raw: Raw, answer: bytes) -> Raw:
        """See Apart."""
        result = _answer_decoder.decode(answer)
        if result.reading is None:
            kind, message = result.failure or ("", "the page could not be read")
            failure = _FAILURES.get(kind, Schema)
            raise failure(message, status=raw.status, url=raw.url)
        return replace(raw, reading=result.reading)

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
        return {_partition_key(values): values for values in each}

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
_answer_decoder = msgspec.msgpack.Decoder(Answer)


def answered(request: bytes, pages: dict[bytes, Pages]) -> bytes:
    """Handle an encoded Errand in the sandbox process; return the encoded Answer.

    `pages`: a cache of readers by recipe, which this function fills. Never raises.
    """
    errand = msgspec.msgpack.decode(request, type=Errand)
    try:
        reading = _reader_of(errand.recipe, pages).read(
            errand.body,
            url=errand.url,
            headers=errand.headers,
            first=errand.first,
            now=errand.at.astimezone(UTC),
        )
        return msgspec.msgpack.encode(Answer(reading))
    except Failure as failure:
        return msgspec.msgpack.encode(Answer(failure=(failure.kind.value, str(failure)[:2_000])))
    except Exception as error:  # noqa: BLE001 - any error fails this page, not the process
        message = f"the page could not be read: {type(error).__name__}: {error}"
        return msgspec.msgpack.encode(Answer(failure=("schema", message[:2_000])))


MOST_RECIPES = 64


def _reader_of(recipe: bytes, pages: dict[bytes, Pages]) -> Pages:
    if recipe not in pages:
        if len(pages) >= MOST_RECIPES:
            pages.clear()
        fields = cast("dict[str, Any]", msgspec.json.decode(recipe))
        pages[recipe] = Pages(Recipe.model_validate(fields))
    return pages[recipe]


def _partition_key(values: Mapping[str, str]) -> str:
    text = " ".join(values.values()).strip() or "-"
    key = "".join(c if c.isprintable() else "?" for c in text)
    return key if len(key) <= LONGEST_PART else hashlib.sha256(key.encode()).hexdigest()

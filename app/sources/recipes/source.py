"""The source that a recipe describes. The collector treats it like any other source."""

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import msgspec

from app.core.errors import FAILURES, BadRecipe, Failure, Incomplete, Schema
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import Item, Record, Rejected
from app.sources.base import ListingEnd
from app.sources.recipes.enums import Missing
from app.sources.recipes.incremental import since_value
from app.sources.recipes.load import RecipeFault, load
from app.sources.recipes.model import Recipe, partition_key
from app.sources.recipes.paging import RecipeRequestBuilder
from app.sources.recipes.reading import PageReading, RecipeReader
from app.sources.recipes.walk import RecipePagination

ORG_MAX_LIMITS = HostLimits(
    rate=5, burst=10, concurrency=4
)  # upper bound for sources of organisations
ORG_SOURCE_PREFIX = (
    "recipe:"  # prefix of the names of organisations' sources; no other source has it
)
SINGLE_PARTITION = "all"  # partition key of a source with a single partition
FIELDS_NOT_READ = {
    "auth",
    "http",
    "limits",
    "retry",
    "expect",
    "incremental",
    "request",
}  # recipe fields that reading a page does not need


class RecipeCheck(msgspec.Struct, tag=True):
    """A request to the sandbox process: load this recipe, which compiles its expressions."""

    text: str


class SandboxRequest(msgspec.Struct, tag=True):
    """A request to the sandbox process: read this page.

    `recipe`: JSON of the recipe. `first`: whether it is the first page. `at`: when it was fetched.
    `values`: the placeholders of its partition.
    """

    recipe: bytes
    body: bytes
    url: str
    headers: dict[str, str]
    first: bool
    at: datetime
    values: dict[str, str] = {}


class SandboxResult(msgspec.Struct):
    """The result of a request: a reading, a failure as its kind and message, or faults.

    `faults`: of a recipe, each as line, key, problem and fix.
    """

    reading: PageReading | None = None
    failure: tuple[str, str] | None = None
    faults: list[tuple[int, str, str, str]] = []


@dataclass(frozen=True)
class RecipeSource:
    """The source of one recipe.

    `cursors`: incremental cursor of each partition. `owner`: id of the organisation that owns the
    recipe, empty for the operator's; sources of two owners share nothing, even with equal names.
    `poll_intervals`: seconds after which each partition of a feed is worth requesting again,
    filled in as
    pages are read. `malformed`: what is wrong with feeds that could still be read, by partition.
    """

    recipe: Recipe
    cursors: Mapping[str, str] = field(default_factory=dict[str, str])
    owner: str = ""
    poll_intervals: dict[str, float] = field(default_factory=dict[str, float])
    malformed: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        """See Source. Names of organisations' sources have a prefix."""
        return f"{ORG_SOURCE_PREFIX}{self.recipe.name}" if self.owner else self.recipe.name

    @property
    def fetcher_name(self) -> str:
        """The name of its fetcher, which is unique to the owner."""
        return f"{self.name}@{self.owner}" if self.owner else self.name

    @property
    def limits(self) -> HostLimits:
        limits = self.recipe.limits
        own = HostLimits(limits.rate, limits.burst, limits.concurrency)
        if not self.owner:
            return own
        return HostLimits(*map(min, astuple(own), astuple(ORG_MAX_LIMITS)))

    @property
    def marks_missing(self) -> bool:
        """Whether stored rows that are absent from a complete listing are marked as missing."""
        return self.recipe.storage.missing is Missing.MARK

    @cached_property
    def _pages(self) -> RecipeReader:
        return RecipeReader(self.recipe)

    @cached_property
    def reader_recipe(self) -> bytes:
        """JSON of the parts of the recipe that decide how a page is read."""
        fields = self.recipe.model_dump(
            mode="json", by_alias=True, exclude=FIELDS_NOT_READ, exclude_none=True
        )
        return msgspec.json.encode(fields)

    @cached_property
    def reader(self) -> str:
        """A digest of the owner and `reader_recipe`: pages with an equal digest are read alike."""
        return hashlib.sha256(self.owner.encode() + b"\n" + self.reader_recipe).hexdigest()[:32]

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Return one partition for each member of `request.each`. Requests nothing."""
        return [Partition(key) for key in self._values]
        yield  # unreachable; makes this a generator

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:
        """See Source. Incomplete if a page is not one of the list, repeats another or is too far.

        Raises Incomplete if that is the first page.
        """
        walk = RecipePagination(self._asker(part))
        step: SourceRequest | ListingEnd | Incomplete = walk.first_request()
        while isinstance(step, SourceRequest):
            try:
                raw = yield step
            except Failure as failure:
                end = walk.end_of_failure(failure)
                if end is None:
                    raise
                step = end
            else:
                reading = self._reading(raw, first=walk.page_number == 0, part=part)
                if reading.malformed is not None:
                    self.malformed[part.key] = reading.malformed
                step = walk.after(raw, reading)
            moved = yield from self._movement(walk, step, part)
            step = moved or step
        if walk.interval is not None:
            self.poll_intervals[part.key] = walk.interval
        return step

    def _movement(
        self, walk: RecipePagination, step: SourceRequest | ListingEnd | Incomplete, part: Partition
    ) -> Generator[SourceRequest, RawPage, Incomplete | None]:
        """Request the page before the last one again; return how rows moved past, if they did."""
        check = None if isinstance(step, Incomplete) else walk.check_request()
        if check is None:
            return None
        try:
            raw = yield check
        except Failure as failure:
            refused = walk.refused_check(failure)
            if refused is None:
                raise
            return refused
        return walk.movement(self._reading(raw, first=check.check_page == 1, part=part))

    def parse(self, raw: RawPage) -> Iterable[Record]:
        reading = self._reading(raw, first=raw.page == 1, part=raw.partition)
        kept = self.recipe.storage
        ignore = tuple(kept.ignore_changes)
        part = raw.partition.key if raw.partition else SINGLE_PARTITION
        for row in reading.rows:
            yield Item(self.name, row.key, row.data, kept.mode, ignore, part)
        for refusal in reading.rejected:
            yield Rejected(refusal.reason, refusal.data, refusal.key)

    def sandbox_request(self, raw: RawPage) -> bytes:
        """See Apart."""
        headers = {n: raw.headers[n] for n in READING_HEADERS if n in raw.headers}
        first = raw.page == 1
        request = SandboxRequest(
            self.reader_recipe,
            raw.body,
            raw.url,
            headers,
            first,
            raw.fetched_at,
            self._placeholder_values(raw.partition),
        )
        return msgspec.msgpack.encode(request)

    def with_sandbox_result(self, raw: RawPage, answer: bytes) -> RawPage:
        """See Apart."""
        if self._has_end_status(raw):
            return raw
        result = _answer_decoder.decode(answer)
        if result.reading is None:
            kind, message = result.failure or ("", "the page could not be read")
            raise FAILURES.get(kind, Schema).of(raw, message)
        return replace(raw, parsed=result.reading)

    def _has_end_status(self, raw: RawPage) -> bool:
        """Return whether the status of the response is one that ends the listing."""
        return raw.status in self.recipe.paginate.end_status

    def _placeholder_values(self, part: Partition | None) -> dict[str, str]:
        return dict(self._values.get(part.key, {})) if part is not None else {}

    def _reading(self, raw: RawPage, *, first: bool, part: Partition | None) -> PageReading:
        if self._has_end_status(raw):
            return PageReading()
        if isinstance(raw.parsed, PageReading):
            return raw.parsed
        return self._pages.read(
            raw.body,
            url=raw.url,
            headers=raw.headers,
            first=first,
            now=raw.fetched_at,
            values=self._placeholder_values(part),
        )

    @cached_property
    def _values(self) -> dict[str, Mapping[str, str]]:
        each = self.recipe.request.each
        if not each:
            return {SINGLE_PARTITION: {}}
        return {partition_key(values): values for values in each}

    def _asker(self, part: Partition) -> RecipeRequestBuilder:
        values = dict(self._values[part.key])
        incremental = self.recipe.incremental
        reader = self.reader
        if self.recipe.columns:  # partitions that request the same page read it differently
            reader = f"{reader} {part.key}"
        if incremental is None:
            return RecipeRequestBuilder(self.recipe, values, reader)
        value = since_value(incremental, self.cursors.get(part.key))
        params = ((incremental.param, value),) if incremental.param and value else ()
        return RecipeRequestBuilder(self.recipe, values | {"since": value or ""}, reader, params)


READING_HEADERS = ("content-type", "cache-control", "age", "expires", "date", "retry-after")
_answer_decoder = msgspec.msgpack.Decoder(SandboxResult)


def handle_sandbox_request(request: bytes, pages: dict[bytes, RecipeReader]) -> bytes:
    """Handle an encoded request in the sandbox process; return the encoded SandboxResult.

    `pages`: a cache of readers by recipe, which this function fills. Never raises.
    """
    decoded = msgspec.msgpack.decode(request, type=SandboxRequest | RecipeCheck)
    if isinstance(decoded, RecipeCheck):
        return msgspec.msgpack.encode(SandboxResult(faults=_faults_of(decoded.text)))
    try:
        reading = _reader_of(decoded.recipe, pages).read(
            decoded.body,
            url=decoded.url,
            headers=decoded.headers,
            first=decoded.first,
            now=decoded.at.astimezone(UTC),
            values=decoded.values,
        )
        return msgspec.msgpack.encode(SandboxResult(reading))
    except Failure as failure:
        return msgspec.msgpack.encode(
            SandboxResult(failure=(failure.kind.value, str(failure)[:2_000]))
        )
    except Exception as error:  # noqa: BLE001 - any error fails this page, not the process
        message = f"the page could not be read: {type(error).__name__}: {error}"
        return msgspec.msgpack.encode(SandboxResult(failure=("schema", message[:2_000])))


def _faults_of(text: str) -> list[tuple[int, str, str, str]]:
    try:
        load(text)
    except BadRecipe as bad:
        faults = cast("list[RecipeFault]", bad.faults)
        return [(fault.line, fault.key, fault.problem, fault.fix) for fault in faults]
    return []


MAX_CACHED_RECIPES = 64


def _reader_of(recipe: bytes, pages: dict[bytes, RecipeReader]) -> RecipeReader:
    if recipe not in pages:
        if len(pages) >= MAX_CACHED_RECIPES:
            pages.clear()
        fields = cast("dict[str, Any]", msgspec.json.decode(recipe))
        pages[recipe] = RecipeReader(Recipe.model_validate(fields))
    return pages[recipe]

# ruff: noqa: E501 - feeds stand here as they come
"""However a feed is damaged: what is read is what it says, or there is a named fault."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.core.errors import Failure
from app.sources.feeds.feed import FIELDS, Entry, Feed
from app.sources.feeds.reading import read
from tests.feeds.pages import atom, item, json_feed, rss

ITEMS = tuple(item(number) for number in range(1, 6))
WHOLE = rss("".join(ITEMS))
ENTRIES = {entry["id"]: entry for entry in read(WHOLE).entries}
PIECES = st.sampled_from(
    [b"&", b"<", b">", b"]]>", b"<![CDATA[", b"<!--", b"-->", b"</item>", b"<item>", b"\x00", b"\xff",
     b"&nbsp;", b"<b>", b"</title>", b'"', b"</channel>", b"<?x", b"&#0;", b"\xe2\x28\xa1", b"<x:y>"]
)  # fmt: skip


def damaged(body: bytes, at: int, cut: int, piece: bytes) -> bytes:
    at %= len(body)
    return body[:at] + piece + body[at + cut :]


def tried(body: bytes) -> Feed | None:
    try:
        return read(body)
    except Failure as failure:
        assert str(failure)  # noqa: PT017 - either is well
        return None


def spot(body: bytes, at: int, cut: int) -> set[str]:
    """The ids of the entries that the damage touches."""
    at %= len(body)
    bounds = [(body.index(one.encode()), one) for one in ITEMS]
    return {
        f"g{number}"
        for number, (begin, one) in enumerate(bounds, 1)
        if begin <= at + cut and at <= begin + len(one)
    }


@settings(max_examples=400)
@given(st.integers(0, 10_000), st.integers(0, 40), PIECES | st.binary(max_size=4))
@example(WHOLE.index(b"</title><link>https://tides.example/3"), 8, b"")
@example(WHOLE.index(b"</item>", 900), 7, b"")
def test_damage_to_one_entry_changes_no_other(at: int, cut: int, piece: bytes) -> None:
    feed = tried(damaged(WHOLE, at, cut, piece))

    if feed is not None:
        touched = spot(WHOLE, at, cut)
        for entry in feed.entries:
            assert tuple(entry) == FIELDS
            if entry["id"] in ENTRIES and entry["id"] not in touched:
                assert entry == ENTRIES[entry["id"]]
        assert _accounted(feed, at, cut, piece)


def _accounted(feed: Feed, at: int, cut: int, piece: bytes) -> bool:
    """Entries that the damage does not touch are there, or the feed says what is wrong with it."""
    touched = spot(WHOLE, at, cut)
    found: dict[str, Entry] = {str(entry["id"]): entry for entry in feed.entries}
    missing = set(ENTRIES) - set(found) - touched
    return not missing or bool(feed.malformed) or bool(feed.rejected) or b"<!" in piece


@settings(max_examples=300)
@given(st.integers(0, 2_000))
def test_a_feed_cut_off_anywhere_gives_only_entries_that_it_has_in_full(at: int) -> None:
    feed = tried(WHOLE[: at % len(WHOLE)])

    if feed is not None:
        assert feed.malformed
        assert all(entry == ENTRIES[str(entry["id"])] for entry in feed.entries)


@settings(max_examples=300)
@given(
    st.sampled_from([b"", b"<", b"{", b"<rss>", b"<feed>", b"<?xml version='1.0'?>"]), st.binary()
)
def test_any_bytes_at_all_end_in_a_feed_or_a_named_fault(before: bytes, body: bytes) -> None:
    tried(before + body)


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 30), PIECES)
def test_a_damaged_atom_or_json_feed_ends_in_a_feed_or_a_named_fault(
    at: int, cut: int, piece: bytes
) -> None:
    entries = "".join(f"<entry><id>{n}</id><title>t{n}</title></entry>" for n in range(4))

    tried(damaged(atom(entries), at, cut, piece))
    tried(damaged(json_feed({"id": 1, "title": "x"}, {"id": 2}), at, cut, piece))

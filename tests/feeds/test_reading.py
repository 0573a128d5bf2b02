# ruff: noqa: E501 - feeds stand here as they come
"""A feed is read as it says, or refused with a reason; nothing is guessed and nothing invented."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import Failure, Schema, TooLarge
from app.sources.feeds.feed import FIELDS, Bounds
from app.sources.feeds.reading import read
from tests.feeds.pages import atom, item, json_feed, rss

AT = "https://tides.example/feed"


def only(body: bytes, **headers: str) -> dict[str, Any]:
    """The one entry of a feed."""
    feed = read(body, headers, AT)
    assert len(feed.entries) == 1, feed
    return feed.entries[0]


def test_an_rss_item_is_read_with_all_it_says() -> None:
    more = (
        "<content:encoded><![CDATA[<p>Full & long</p>]]></content:encoded><dc:creator>Ada</dc:creator>"
        "<category>sea</category><category>moon</category><comments>/c/1</comments>"
        '<enclosure url="/tide.mp3" type="audio/mpeg" length="12"/>'
    )

    entry = only(rss(item(1, more), "<language>en</language>"))

    assert tuple(entry) == FIELDS
    assert entry == {
        "id": "g1",
        "url": "https://tides.example/1",
        "title": "High water 1",
        "published": datetime(2026, 11, 2, 10, 1, tzinfo=UTC),
        "updated": None,
        "summary": "At the pier 1",
        "content": "<p>Full & long</p>",
        "author": "Ada",
        "categories": ["sea", "moon"],
        "enclosures": [{"url": "https://tides.example/tide.mp3", "type": "audio/mpeg", "length": "12"}],
        "image": None,
        "comments": "https://tides.example/c/1",
        "language": "en",
        "faults": [],
    }  # fmt: skip


def test_rss_1_and_0_9_are_read_too() -> None:
    rdf = (
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"'
        b' xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="x"><title>T</title></channel>'
        b'<item rdf:about="urn:1"><title>A</title><link>https://a.example/</link>'
        b"<dc:date>2026-11-02T10:00:00+02:00</dc:date></item></rdf:RDF>"
    )
    old = (
        b'<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE rss PUBLIC "-//Netscape//DTD RSS 0.91//EN"'
        b' "http://my.netscape.com/publish/formats/rss-0.91.dtd"><rss version="0.91"><channel>'
        b"<title>Caf\xe9</title><item><title>A caf&eacute;</title><link>https://a.example/</link></item>"
        b"</channel></rss>"
    )

    first, second = read(rdf, {}, AT), read(old, {}, AT)

    assert (first.kind, first.title, first.entries[0]["id"]) == ("rdf", "T", "urn:1")
    assert first.entries[0]["published"] == datetime(2026, 11, 2, 8, tzinfo=UTC)
    assert (second.title, second.malformed) == ("Café", None)
    assert (second.entries[0]["title"], second.entries[0]["id"]) == (
        "A café",
        "https://a.example/",
    )


def test_an_atom_entry_is_read_with_its_base_and_its_kinds_of_text() -> None:
    entry = only(
        atom(
            '<entry><id>urn:1</id><title type="html">Cats &amp;amp; &lt;b&gt;dogs&lt;/b&gt;</title>'
            '<link rel="enclosure" href="e.mp3"/><link href="1.html"/><link rel="replies" href="1/c"/>'
            "<published>2026-11-02T10:00:00.25+01:00</published><updated>2026-11-03T00:00:00Z</updated>"
            '<summary>short</summary><content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">'
            '<p class="x">a <b>b</b> &amp; c</p></div></content><category term="sea"/>'
            "<author><name>Ada</name></author></entry>"
        )
    )

    assert (entry["id"], entry["title"]) == ("urn:1", "Cats & dogs")
    assert entry["url"] == "https://tides.example/a/1.html"
    assert entry["comments"] == "https://tides.example/a/1/c"
    assert entry["content"] == '<p class="x">a <b>b</b> &amp; c</p>'
    assert entry["published"] == datetime(2026, 11, 2, 9, 0, 0, 250_000, tzinfo=UTC)
    assert (entry["updated"], entry["author"]) == (datetime(2026, 11, 3, tzinfo=UTC), "Ada")
    assert entry["enclosures"][0]["url"] == "https://tides.example/a/e.mp3"


def test_a_json_feed_is_read_and_its_odd_items_are_rejected_one_by_one() -> None:
    whole = {
        "id": 7,
        "url": "/7",
        "title": "Seven",
        "content_html": "<p>7</p>",
        "date_published": "2026-11-02T10:00:00Z",
        "authors": [{"name": "Ada"}],
        "tags": ["sea", 3],
    }

    feed = read(json_feed(whole, "odd", {"tags": []}, None), {}, AT)

    assert (feed.kind, feed.title, len(feed.entries)) == ("json", "Tides", 1)
    entry = feed.entries[0]
    assert (entry["id"], entry["url"]) == ("7", "https://tides.example/7")
    assert (entry["author"], entry["categories"]) == ("Ada", ["sea"])
    assert [r.reason for r in feed.rejected] == [
        "item 2 is not an object",
        "item 4 is not an object",
        "entry 2: it has no content",
    ]


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("Mon, 02 Nov 2026 10:00:00 +0200", "2026-11-02T08:00:00"),
        ("2 Nov 26 10:00 EST", "2026-11-02T15:00:00"),
        ("Mon, 2 November 2026 10:00:00 Z", "2026-11-02T10:00:00"),
        ("Thu, 31 Dec 2026 23:59:60 GMT", "2027-01-01T00:00:00"),
        ("2026-11-02T10:00:00.5-05:30", "2026-11-02T15:30:00.500000"),
        ("20261102T100000Z", "2026-11-02T10:00:00"),
        ("Mon, 02 Nov 2026 10:00:00 GMT (UTC)", "2026-11-02T10:00:00"),
    ],
)
def test_a_date_is_read_to_utc(written: str, read_as: str) -> None:
    entry = only(rss(f"<item><guid>1</guid><pubDate>{written}</pubDate></item>"))

    assert entry["published"] == datetime.fromisoformat(read_as).replace(tzinfo=UTC)
    assert entry["faults"] == []


@pytest.mark.parametrize(
    "written",
    [
        "Mon, 31 Nov 2026 10:00:00 GMT",
        "Mon, 02 Nov 2026 25:00:00 GMT",
        "Mon, 02 Nov 2026 10:00:00 XYZ",
        "Mo, 02 Brumaire 2026 10:00:00 GMT",
        "2026-13-01T00:00:00Z",
        "2026-11-02T10:00:00+99:99",
        "0001-01-01T00:00:00+05:00",
        "03/04/2026",
        "Nov 2026",
        "10",
        "yesterday",
        "1" * 5_000,
    ],
)
def test_a_date_that_cannot_be_is_null_and_said_to_be_none(written: str) -> None:
    entry = only(rss(f"<item><guid>1</guid><pubDate>{written}</pubDate></item>"))

    assert entry["published"] is None
    assert len(entry["faults"]) == 1
    assert "is not a valid date" in entry["faults"][0]


def test_a_date_without_a_zone_is_utc_and_says_so() -> None:
    entry = only(rss("<item><guid>1</guid><pubDate>2026-11-02 10:00:00</pubDate></item>"))

    assert entry["published"] == datetime(2026, 11, 2, 10, tzinfo=UTC)
    assert "no time zone" in entry["faults"][0]


def test_an_item_without_a_date_gets_none() -> None:
    assert only(rss("<item><guid>1</guid></item>"))["published"] is None


@pytest.mark.parametrize("declared", ["utf-8", "iso-8859-1", "windows-1251", "no-such", "utf-7"])
def test_utf_8_is_known_whatever_the_feed_says(declared: str) -> None:
    body = rss("<item><title>Привет é</title></item>", before=f'<?xml version="1.0" encoding="{declared}"?>')  # fmt: skip

    feed = read(body)

    assert feed.entries[0]["title"] == "Привет é"
    assert (feed.malformed is None) == (declared in ("utf-8", "no-such", "utf-7"))


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("iso-8859-1", "ISO-8859-1"),
        ("cp1252", "iso-8859-1"),
        ("gb18030", "gb2312"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-8"),
        ("utf-8-sig", "iso-8859-1"),
        ("utf-32", "utf-8"),
    ],
)
def test_a_feed_in_another_encoding_is_read(encoding: str, declared: str) -> None:
    before = f'<?xml version="1.0" encoding="{declared}"?>'

    feed = read(rss("<item><title>naïve</title></item>", before=before, encoding=encoding))

    assert (feed.entries[0]["title"], feed.malformed) == ("naïve", None)


def test_the_content_type_tells_the_encoding_where_the_feed_does_not() -> None:
    body = rss("<item><title>Łódź</title></item>", encoding="iso-8859-2")

    entry = only(body, **{"content-type": "text/xml; charset=ISO-8859-2"})

    assert entry["title"] == "Łódź"


def test_what_is_in_no_encoding_it_names_is_read_as_browsers_do_and_marked() -> None:
    feed = read(rss("<item><title>naïve</title></item>", encoding="cp1252"))

    assert feed.entries[0]["title"] == "naïve"
    assert feed.malformed == "it is not valid utf-8; decoded as windows-1252"


def test_a_letter_that_is_cut_in_two_costs_no_other() -> None:
    title = "Grüße aus Köln über Düsseldorf nach Münster"
    body = rss(f"<item><title>{title}</title><description>XX</description></item>")

    feed = read(body.replace(b"XX", "ö".encode()[:1]))

    assert feed.entries[0]["title"] == title
    assert feed.entries[0]["summary"] == "\ufffd"
    assert "bytes that are not valid utf-8" in (feed.malformed or "")


BOMB = '<!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>'


@pytest.mark.parametrize(
    "before",
    [
        BOMB,
        '<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE rss [<!ENTITY % x SYSTEM "http://localhost/x.dtd"> %x;]>',
        '<?xml version="1.0"?>\n<!-- x --><!DOCTYPE rss SYSTEM "x.dtd" [<!ELEMENT rss ANY>]>',
        '<!doctype rss [<!entity x "y">]>',
        '&<!DOCTYPE rss [<!ENTITY x "y">]>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32"])
def test_a_feed_with_a_dtd_of_its_own_is_refused_unread(before: str, encoding: str) -> None:
    if encoding != "utf-8" and before.startswith("&"):
        before = before[1:]
    with pytest.raises(Schema):
        read(rss("<item><title>&x;</title></item>", before=before, encoding=encoding))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b"<!doctype html><html><p>Not found</p></html>", "an HTML page, not a feed"),
        (b'<?xml version="1.0"?><!-- a --><html xmlns="x"></html>', "an HTML page"),
        (b"<svg></svg>", "not a feed: its root is 'svg'"),
        (b"<rss></rss>", "without a channel"),
        (b"{}", "not a JSON Feed"),
        (b'{"version": 1, "items": []}', "not a JSON Feed"),
        (b'{"version": "https://jsonfeed.org/version/1", "items": 5}', "no list of items"),
        (b'{"version": "https://jsonfeed.org/version/1", "items": [', "not valid JSON"),
        (b"[" * 100_000, "JSON"),
        (b"/etc/passwd", "begins with '/etc/passwd'"),
        (b"https://tides.example/feed", "begins with"),
        (b"\xff\xfe\x00\xd8", "is not"),
        (b"<rss><channel><item><title>a</item><item>", "cut off|separated|broken"),
        (b"Fatal error: <b>x</b>", "not a feed"),
    ],
)
def test_what_is_no_feed_is_refused_with_a_reason(body: bytes, said: str) -> None:
    try:
        feed = read(body, {}, AT)
    except Failure as failure:
        assert any(word in str(failure) for word in said.split("|")), failure  # noqa: PT017 - either is well
    else:
        assert feed.malformed
        assert not feed.entries


def test_a_page_for_people_names_the_feed_it_offers() -> None:
    page = b'<html><head><link rel=alternate type="application/rss+xml" href="/f?a=1&amp;b=2">'

    with pytest.raises(Schema, match=r"it links to the feed /f\?a=1&b=2"):
        read(page)


def test_a_feed_is_never_taken_for_a_file_or_an_address(tmp_path: Path) -> None:
    secret = tmp_path / "rss"
    secret.write_bytes(rss(item(1)))

    with pytest.raises(Schema):
        read(str(secret).encode())


def test_an_empty_feed_is_a_feed_without_entries() -> None:
    assert read(rss("")).entries == ()
    assert read(atom("")).entries == ()
    assert read(json_feed()).entries == ()


# A feed that is broken in one place: what is whole is read as it stands, and the rest says so.


@pytest.mark.parametrize(
    ("broken", "title"),
    [
        ("<title>Salt & pepper</title>", "Salt & pepper"),
        ("<title>a&nbsp;b</title>", "a b"),
        ("<title>caf&eacute;</title>", "café"),
        ("<title>a\x0bb</title>", "ab"),
        ("<title>a</title><slash:comments>3</slash:comments>", "a"),
        ("<title>a</title><foo:bar>3</foo:bar>", "a"),
        ("<title>a</title><description>x<br>y</description>", "a"),
        ("<title>a</title><description><p>x<p>y</description>", "a"),
        ("<title>a</title><link href=x/>", "a"),
        ("<title>a</title><description>1 < 2</description>", "a"),
    ],
)
def test_an_entry_that_is_broken_leaves_the_others_as_they_are(broken: str, title: str) -> None:
    whole = read(rss(item(1) + item(3)), {}, AT)
    body = rss(f"{item(1)}<item><guid>2</guid>{broken}</item>{item(3)}")

    feed = read(body, {}, AT)

    assert feed.malformed
    assert feed.title == "Tides"
    assert [feed.entries[0], feed.entries[2]] == list(whole.entries)
    assert (feed.entries[1]["id"], feed.entries[1]["title"]) == ("2", title)


def test_a_feed_that_is_cut_off_keeps_its_whole_entries_and_rejects_the_rest() -> None:
    whole = read(rss(item(1) + item(2)), {}, AT)
    body = rss(item(1) + item(2) + item(3))
    end = body.index(b"High water 3") + 4

    feed = read(body[:end], {}, AT)

    assert feed.entries == whole.entries
    assert len(feed.rejected) == 1
    assert feed.rejected[0].reason.startswith("cut off")
    assert feed.rejected[0].data.endswith(b"High")


def test_text_around_a_feed_does_not_keep_it_from_being_read() -> None:
    body = b"Warning: mysql_connect()\n" + rss(item(1)) + b"<!-- cached --> trailing <junk"

    feed = read(body, {}, AT)

    assert feed.malformed
    assert feed.entries == read(rss(item(1)), {}, AT).entries


def test_a_section_of_cdata_hides_what_looks_like_entries() -> None:
    more = "<content:encoded><![CDATA[<item><entry></item>]]></content:encoded>"

    feed = read(rss(item(1, more) + "<item><title>a & b</title></item>"), {}, AT)

    assert [e["title"] for e in feed.entries] == ["High water 1", "a & b"]


def test_entries_that_run_into_each_other_are_refused_together() -> None:
    body = rss(item(1) + item(2)).replace(b"</item>", b"", 1)

    with pytest.raises(Schema, match="cannot be separated"):
        read(body)


def test_what_is_too_much_is_refused_by_name() -> None:
    with pytest.raises(TooLarge, match="bytes"):
        read(rss(item(1)), bounds=Bounds(size=100))
    with pytest.raises(TooLarge, match="3 entries; at most 2"):
        read(rss(item(1) * 3), bounds=Bounds(entries=2))
    with pytest.raises(TooLarge, match="nested deeper"):
        read(rss(f"<item>{'<a>' * 300}{'</a>' * 300}</item>"))
    with pytest.raises(TooLarge, match="too long to be read entry by entry"):
        read(rss("<item>&</item>"), bounds=Bounds(malformed_size=10))


def test_an_entry_that_is_too_long_is_rejected_alone() -> None:
    feed = read(
        rss(item(1) + item(2, "<author>" + "x" * 600 + "</author>")), bounds=Bounds(text=500)
    )

    assert len(feed.entries) == 1
    assert feed.rejected[0].reason == "entry 2: its author has 600 characters; at most 500 are read"
    assert feed.rejected[0].record_id == "g2"


def test_what_postgres_cannot_hold_is_shown_as_a_hole() -> None:
    entry = only(json_feed({"id": "a\x00b", "tags": ["x\x00"]}))

    assert (entry["id"], entry["categories"]) == ("a\ufffdb", ["x\ufffd"])


def test_a_feed_says_how_long_it_keeps() -> None:
    head = "<ttl>90</ttl><skipHours><hour>3</hour><hour>24</hour><hour>x</hour></skipHours><skipDays><day>Sunday</day></skipDays>"
    weekly = "<sy:updatePeriod>daily</sy:updatePeriod><sy:updateFrequency>4</sy:updateFrequency>"

    assert read(rss("", head)).ttl == timedelta(minutes=90)
    assert read(rss("", head)).skip_hours == {0, 3}
    assert read(rss("", head)).skip_days == {6}
    assert read(rss("", weekly)).ttl == timedelta(hours=6)

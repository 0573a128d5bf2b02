"""Feeds of our own making, for what happens to them on their way into the database."""

import json

NAMESPACES = (
    'xmlns:content="http://purl.org/rss/1.0/modules/content/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:sy="http://purl.org/rss/1.0/modules/syndication/"'
)


def rss(items: str, head: str = "", before: str = "", encoding: str = "utf-8") -> bytes:
    """An RSS 2.0 feed of these items."""
    text = (
        f'{before}<rss version="2.0" {NAMESPACES}><channel><title>Tides</title>'
        f"<link>https://tides.example/</link>{head}{items}</channel></rss>"
    )
    return text.encode(encoding)


def item(number: int = 1, more: str = "") -> str:
    """One item, whole."""
    return (
        f"<item><guid isPermaLink='false'>g{number}</guid><title>High water {number}</title>"
        f"<link>https://tides.example/{number}</link>"
        f"<pubDate>Mon, 02 Nov 2026 10:0{number % 10}:00 GMT</pubDate>"
        f"<description>At the pier {number}</description>{more}</item>"
    )


def atom(entries: str, head: str = "") -> bytes:
    """An Atom 1.0 feed of these entries."""
    return (
        '<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://tides.example/a/">'
        f"<title>Tides</title><id>urn:tides</id><updated>2026-11-02T10:00:00Z</updated>{head}{entries}</feed>"
    ).encode()


def json_feed(*items: object, **more: object) -> bytes:
    """A JSON Feed of these items."""
    result = {"version": "https://jsonfeed.org/version/1.1", "title": "Tides", "items": items}
    return json.dumps(result | more).encode()

"""Addresses are read as browsers read them, and paging leaves the rest of a query as it is."""

import pytest

from app.sources.addresses import origin, resolve, with_params, without_params

BASE = "https://site.test/a/b.html"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/files/Annual Report.pdf", "https://site.test/files/Annual%20Report.pdf"),
        (" /a\n  /b\t", "https://site.test/a/b"),
        ("a\u00a0b.pdf", "https://site.test/a/a%C2%A0b.pdf"),
        ("x y?q=a b#c d", "https://site.test/a/x%20y?q=a%20b#c%20d"),
        ("?q=caf%E9&at=+01:00", "https://site.test/a/b.html?q=caf%E9&at=+01:00"),
        ("\\files\\a.pdf", "https://site.test/files/a.pdf"),
        ("//cdn.test/x", "https://cdn.test/x"),
        ("https://bücher.example/ä", "https://bücher.example/ä"),
        ("mailto:ada@site.test", None),
        ("javascript:void(0)", None),
        ("http://[", None),
        ("http://a b/", None),
        ("http://a.test:99999/", None),
    ],
)
def test_an_address_is_resolved_as_a_browser_does(written: str, expected: str | None) -> None:
    assert resolve(BASE, written) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.test/x?q=caf%E9&t=+01:00", "https://a.test/x?q=caf%E9&t=+01:00&page=2"),
        ("https://a.test/x?flag&p=a%2Fb", "https://a.test/x?flag&p=a%2Fb&page=2"),
        ("https://a.test/x?page=1&sig=a%2b%2B=", "https://a.test/x?sig=a%2b%2B=&page=2"),
        ("https://a.test/x?%70age=1&&b", "https://a.test/x?&b&page=2"),
        ("https://a.test/x", "https://a.test/x?page=2"),
        ("https://a.test/x?#frag", "https://a.test/x?page=2#frag"),
    ],
)
def test_parameters_are_added_and_the_rest_stays_as_it_is_written(url: str, expected: str) -> None:
    assert with_params(url, [("page", "2")]) == expected


def test_a_parameter_is_removed_and_the_rest_stays() -> None:
    assert without_params("https://a.test/x?q=caf%E9&page=1", ["page"]) == (
        "https://a.test/x?q=caf%E9"
    )
    assert without_params("https://a.test/x?page=1", ["page"]) == "https://a.test/x"


def test_a_host_and_its_punycode_are_one_origin() -> None:
    assert origin("https://xn--bcher-kva.example/a") == origin("https://BÜCHER.example:443/b")
    assert origin("https://xn--strae-oqa.example") == origin("https://straße.example")
    assert origin("https://a.test") != origin("http://a.test")

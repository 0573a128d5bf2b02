"""Addresses: shown without secrets, refused where they are not plain http."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import TooLarge
from app.fetch.urls import check_url, host_key, public_url, same_origin


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hush@a.test/x?page=2", "https://a.test/x?page=2"),
        ("https://a.test/?api_key=hush&q=1", "https://a.test/?api_key=***&q=1"),
        ("https://a.test/?q=1&accessToken=hush", "https://a.test/?q=1&accessToken=***"),
        (
            "https://a.test/?X-Amz-Signature=hush;key=hush",
            "https://a.test/?X-Amz-Signature=***;key=***",
        ),
        ("https://a.test/?%74oken=hush", "https://a.test/?%74oken=***"),
        ("https://a.test/?password=hush#token", "https://a.test/?password=***"),
        ("https://a.test/?keywords=goal&keyboard=1", "https://a.test/?keywords=goal&keyboard=1"),
        ("http://[broken", "(invalid URL)"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


@given(st.text())
def test_any_text_can_be_shown_as_an_address(text: str) -> None:
    assert public_url(f"http://{text}").isprintable()


def test_an_endless_address_is_too_large() -> None:
    with pytest.raises(TooLarge):
        check_url(httpx.URL("https://a.test/?q=" + "a" * 9_000))


def test_a_host_is_known_by_its_name_and_port() -> None:
    assert host_key(httpx.URL("https://A.test/x")) == "a.test:443"
    assert host_key(httpx.URL("http://a.test.:8080")) == "a.test:8080"
    assert same_origin(httpx.URL("https://a.test/x"), httpx.URL("https://a.test:443/y"))
    assert not same_origin(httpx.URL("https://a.test"), httpx.URL("http://a.test"))

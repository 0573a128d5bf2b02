"""The text of a page is read as its readers see it."""

from tests.recipes.one_page import read_html, text_of


def test_a_line_break_and_a_block_part_words() -> None:
    assert text_of("12 High St<br>Leeds") == "12 High St Leeds"
    assert text_of("<p>One</p><p>Two</p>") == "One Two"
    assert text_of("<ul><li>One</li><li>Two</li></ul>") == "One Two"
    assert text_of("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>") == "1 2 3"
    assert text_of("in<b>line</b> <i>te</i>xt") == "inline text"
    assert text_of("a<wbr>b&shy;c") == "ab\u00adc"


def test_scripts_and_styles_are_no_text() -> None:
    assert text_of("9.50<script>track('x')</script><style>.a{}</style> EUR") == "9.50 EUR"
    assert text_of("a<template>b</template>c") == "ac"


def test_a_script_that_a_column_asks_for_is_read() -> None:
    page = '<div class="row"><b>1</b><script type="application/json">{"a": 1}</script></div>'

    reading = read_html(page, id="b", data="script")

    assert reading.rows[0].data["data"] == '{"a": 1}'


def test_a_blank_in_a_link_is_kept_and_a_script_link_costs_no_row() -> None:
    page = (
        '<div class="row"><b>1</b><a href="/files/Annual  Report.pdf">x</a></div>'
        '<div class="row"><b>2</b><a href="javascript:void(0)">x</a></div>'
        '<div class="row"><b>3</b><a href=" JavaScript:open()">x</a></div>'
    )

    reading = read_html(page, id="b", url={"path": "a::attr(href)", "type": "url"})

    assert [row.data["url"] for row in reading.rows] == [
        "https://site.test/files/Annual%20%20Report.pdf",
        None,
        None,
    ]
    assert not reading.rejected


def test_a_script_link_in_a_required_column_is_refused() -> None:
    page = '<div class="row"><b>1</b><a href="javascript:void(0)">x</a></div>'

    reading = read_html(
        page, id="b", url={"path": "a::attr(href)", "type": "url", "required": True}
    )

    assert "is not a valid URL" in reading.rejected[0].reason


def test_undeclared_windows_1252_is_read_as_browsers_read_it() -> None:
    said = "café \u2013 \u201c5 €\u201d"
    page = f'<div class="row"><b>{said}</b></div>'

    for encoding in ("utf-8", "cp1252"):
        reading = read_html(page.encode(encoding), id="b")
        assert reading.rows[0].data["id"] == said
    declared = read_html(page.encode("cp1252"), "text/html; charset=iso-8859-1", id="b")
    assert declared.rows[0].data["id"] == said


def test_a_few_bad_bytes_do_not_change_the_encoding_of_a_page() -> None:
    page = '<div class="row"><b>żółć ąęśćźń żółć</b>'.encode() + b"\xff</div>"

    assert read_html(page, id="b").rows[0].data["id"] == "żółć ąęśćźń żółć"

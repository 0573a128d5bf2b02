"""Numbers keep every digit that a page gives them, or are refused."""

from typing import Any

import pytest

from app.core.errors import Schema
from app.sources.recipes.exact_jmespath import evaluate
from app.sources.recipes.expressions import check_jmespath
from app.sources.recipes.jsonpages import decode
from tests.recipes.one_page import read_json
from tests.recipes.test_fields import of

LATIN = {"content-type": "application/json; charset=iso-8859-1"}


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        ("decimal", "19.90", "19.90"),
        ("string", "19.90", "19.90"),
        ("number", "19.90", 19.9),
        ("decimal", "12345678901234567.89", "12345678901234567.89"),
        ("string", "12345678901234567.89", "12345678901234567.89"),
        ("decimal", "1e2", "100"),
        ("integer", "5.0", 5),
        ("number", "19.899999999999999", 19.9),
        ("decimal", "0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("number", "0.1000000000000000055511151231257827", 0.1),
        ("string", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("json", "[12345678901234567.89, 2.50]", ["12345678901234567.89", 2.5]),
        ("json", "[123456789012345678901234567890]", ["123456789012345678901234567890"]),
        ("json", "[1e400, -1e400, 1e-400, 0e-400]", ["1E+400", "-1E+400", "1E-400", 0.0]),
    ],
)
def test_a_json_number_keeps_its_digits(kind: str, written: str, expected: Any) -> None:
    assert of(decode(written.encode(), {}), kind) == expected


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("number", "12345678901234567.89"),
        ("integer", "123456789012345678901234567890"),
        ("number", "123456789012345678901234567890"),
    ],
)
def test_a_number_that_a_type_does_not_hold_is_refused(kind: str, written: str) -> None:
    with pytest.raises(ValueError, match="use the type decimal"):
        of(decode(written.encode(), {}), kind)


@pytest.mark.parametrize("number", ["1e99999999999999999999", "-1E-99999999999999999999"])
@pytest.mark.parametrize("mark", ["", ")]}'\n"])
def test_a_number_beyond_all_exponents_loses_no_other_row(number: str, mark: str) -> None:
    body = f'{mark}[{{"id": "a", "n": {number}}}, {{"id": "b", "n": 1.5}}]'.encode()

    reading = read_json(body, id="id", n={"path": "n", "type": "decimal"})

    assert [row.key for row in reading.rows] == ["b"]
    assert [one.key for one in reading.rejected] == ["a"]
    assert "n: " in reading.rejected[0].reason


@pytest.mark.parametrize("name", ["title", "\\ud800"])
def test_half_a_character_in_a_rejected_row_loses_no_other_row(name: str) -> None:
    body = f'[{{"id": null, "{name}": "\\ud83d", "n": 1}}, {{"id": "b"}}]'.encode()

    reading = read_json(body, id="id")

    assert [row.key for row in reading.rows] == ["b"]
    (rejected,) = reading.rejected
    assert rejected.data == f'{{"id": null, "{name}": "\\ud83d", "n": 1}}'.encode()


def test_ids_that_differ_in_their_last_digit_are_two_rows() -> None:
    body = b'[{"id": 1234567890.12345678901}, {"id": 1234567890.12345678902}]'

    reading = read_json(body, id="id")

    assert [row.key for row in reading.rows] == ["1234567890.12345678901", "1234567890.12345678902"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 234", "1234"),
        ("1\u202f234\u202f567.5", "1234567.5"),
        ("1'234'567", "1234567"),
        ("12,34,567", "1234567"),
        ("1,234.50", "1234.50"),
        ("- 5", "-5"),
        (".5", "0.5"),
    ],
)
def test_a_written_number_with_valid_grouping_is_read(text: str, expected: str) -> None:
    assert of(text, "decimal") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("12 99", "3 5", "5'11", "1_0", "1 2345", "1 234 56", "1,234 567", "123,45,678"),
        *("0,123", "5-", "1,23", "12,3456", "1.2.3", "٣_٤", "0x10", "1,234,56", "1..2", "+", "."),
    ],
)
def test_a_written_number_with_other_blanks_and_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid"):
        of(text, "decimal")


def test_jmespath_compares_and_adds_decimals_exactly() -> None:
    page = decode(b'{"p": [{"v": 19.90, "n": "a"}, {"v": 5, "n": "b"}, {"v": 0.1, "n": "c"}]}', {})

    assert evaluate("p[?v == `19.9`].n", page) == ["a"]
    assert evaluate("p[?v > `5`].n", page) == ["a"]
    assert str(evaluate("sum(p[].v)", page)) == "25.00"
    assert evaluate("sort_by(p, &v)[].n", page) == ["c", "b", "a"]
    assert evaluate("to_string(p[0])", page) == '{"v":19.90,"n":"a"}'
    assert evaluate("to_number('1_0')", page) is None
    assert str(evaluate("to_number('12.50')", page)) == "12.50"
    assert evaluate("type(p[0].v)", page) == "number"


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("lenght(a)", "did you mean length"),
        ("a[?contain(b, 'x')]", "did you mean contains"),
        ("sort_by(a, &nowhere(b))", "unknown function"),
        ("length(a, b)", "takes 1"),
        ("merge()", "at least 1"),
    ],
)
def test_a_call_that_can_never_work_is_a_fault_of_the_recipe(expression: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        check_jmespath(expression)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b'{"a": "\\ud800x"}', {}, "\ud800x"),
        (b'{"a": NaN}', {}, None),
        ('{"a": "é"}'.encode("latin-1"), LATIN, "é"),
        ('{"a": "é"}'.encode(), LATIN, "é"),
        ('{"a": "é"}'.encode("utf-16"), {}, "é"),
        ('{"a": "é"}'.encode("utf-16-le"), {}, "é"),
        ('{"a": "é"}'.encode("utf-8-sig"), {}, "é"),
        (b'{"a": "x\ny"}', {}, "x\ny"),
        (b')]}\',\n{"a": 1}', {}, 1),
    ],
)
def test_a_json_page_is_not_lost_to_how_it_is_written(
    body: bytes, headers: dict[str, str], expected: Any
) -> None:
    assert decode(body, headers)["a"] == expected


@pytest.mark.parametrize("body", [b"", b"<p>", b'{"a": 1,}', b'{"a": "\xe9"}', b"[" + b"1" * 5_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(Schema, match="is not valid JSON"):
        decode(body, {})

"""Every fault of a recipe is named at once: its line, its key, what is wrong, and the mend."""

import time
import tomllib
from itertools import combinations

import pytest

from app.core.errors import BadRecipe
from app.sources.recipes.load import load, secret_references
from app.sources.recipes.model import json_schema
from app.sources.recipes.toml_lines import line_of

GOOD = """\
name = "wares"
kind = "json"
url = "https://site.test/{each}"
[request]
each = ["a", "b"]
[paginate]
type = "page"
max_pages = 3
[extract]
records = "items"
[extract.fields]
id = "id"
price = { path = "price", type = "decimal" }
[store]
key = "id"
"""


def faults(text: str) -> list[str]:
    with pytest.raises(BadRecipe) as refused:
        load(text)
    return [str(fault) for fault in refused.value.faults]


@pytest.mark.parametrize("name", ["Host", "Transfer-Encoding", "Content-Length", "Upgrade"])
def test_a_recipe_says_no_header_that_is_ours_to_say_not_even_as_its_key(name: str) -> None:
    plain = f'[http]\nheaders = {{ {name} = "chunked" }}\n[store]'
    key = f'[auth]\ntype = "header"\nname = "{name}"\nvalue = "secret:key"\n[store]'

    found = [faults(GOOD.replace("[store]", block)) for block in (plain, key)]

    assert all(f"{name.lower()} is set by Rollcall" in "; ".join(said) for said in found)


def test_a_number_too_long_to_be_read_is_a_fault_like_any_other() -> None:
    assert "line 1: is not valid TOML: " in faults("x = " + "9" * 30_000)[0]


def test_a_good_recipe_has_no_fault() -> None:
    assert load(GOOD).paginate.max_pages == 3


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("max_pages = 3", "", "line 6: paginate.max_pages: is missing (add max_pages = 10"),
        ("max_pages = 3", "max_pages = 3\nmaxpages = 4", "line 9: paginate.maxpages: is not known"),
        ('"decimal"', '"money"', "line 13: extract.fields.price.type: input should be 'string'"),
        ('"page"', '"pages"', "line 7: paginate.type: "),
        ('records = "items"', 'records = "items["', "line 10: extract.records: is not valid JM"),
        ('key = "id"', 'key = "ids"', "line 15: store.key: names 'ids', which is not a field"),
        ("{each}", "{team}", "line 3: url: has the unknown placeholder {team} (known"),
        ("https://site.test", "https://{each}.test", "line 3: url: has a {placeholder} in"),
        ('name = "wares"', 'name = "Wares"', "line 1: name: "),
        ('["a", "b"]', '["a", "a"]', "line 4: request: each contains the same member twice"),
        ('["a", "b"]', '["a", "a "]', "line 4: request: each has two members with the name 'a'"),
        ('["a", "b"]', '["", " "]', "line 4: request: each has two members with the name '-'"),
        (
            'each = ["a", "b"]',
            'each = [{ each = "x y", of = "z" }, { each = "x", of = "y z" }]',
            "line 4: request: each has two members with the name 'x y z'",
        ),
        (
            "[store]",
            '[incremental]\nparam = "s"\nfield = "id"\nformat = "plain"\noverlap = "1m"\n[store]',
            'line 18: incremental.overlap: has no effect with format = "plain"',
        ),
        ("[store]", "[stor]", "line 14: stor: is not known here (did you mean store?)"),
        ('kind = "json"', "kind =", "line 2: is not valid TOML: "),
    ],
)
def test_a_fault_says_where_it_is_and_how_to_mend_it(old: str, new: str, fault: str) -> None:
    found = faults(GOOD.replace(old, new))

    assert any(said.startswith(fault) for said in found), found


def test_all_faults_are_told_at_once() -> None:
    text = GOOD.replace('"decimal"', '"money"').replace('"wares"', '"W"').replace("= 3", "= 0")

    assert len(faults(text)) == 3


def test_a_secret_never_stands_in_a_recipe() -> None:
    said = faults(GOOD + '[auth]\ntype = "bearer"\ntoken = "abc123"\n')

    assert said == [
        "line 18: auth.token: must not contain the secret itself (write env:NAME (the operator's)"
        " or secret:NAME (your own))"
    ]


def test_headers_that_carry_secrets_are_sent_to_auth() -> None:
    said = faults(GOOD + '[http]\nheaders = { Authorization = "Bearer abc" }\n')

    assert "authorization carries a secret (use the block [auth] instead)" in said[0]
    assert "abc" not in said[0]


def test_the_secrets_of_a_recipe_are_told() -> None:
    recipe = load(GOOD + '[auth]\ntype = "query"\nname = "k"\nvalue = "secret:KEY"\n')

    assert secret_references(recipe) == {"secret:KEY": ("auth", "value")}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 1),
        (("request", "each", 0, "team"), 5),
        (("extract", "fields", "price", "type"), 13),
        (("paginate", "nothing"), 6),
        (("nowhere",), 1),
    ],
)
def test_a_key_is_found_in_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert line_of(GOOD, path) == line


def test_an_html_field_that_looks_at_the_whole_page_is_a_fault() -> None:
    text = GOOD.replace('"json"', '"html"').replace('id = "id"', 'id = "//a/@href"')

    assert any(
        "searches the whole page for every row (begin it with ./)" in f for f in faults(text)
    )


def test_editors_get_a_schema_that_knows_every_block() -> None:
    schema = json_schema()

    assert set(tomllib.loads(GOOD)) <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 19_000) + " = 1",
        "x = [\n[" + " " * 30_000 + "\n]\n]",
        "\n".join(f"k{n} = 1" for n in range(4_000)),
        "a = " + "[" * 30_000,
        GOOD + "\n".join(f"[extract.fields.f{n}]\npath = 'a['" for n in range(99)),
    ],
    ids=["dots", "spaces", "keys", "brackets", "faults"],
)
def test_no_text_takes_long_to_be_refused(text: str) -> None:
    began = time.process_time()

    assert faults(text)

    assert time.process_time() - began < 2


def test_a_schedule_that_can_never_be_is_a_fault_of_its_block() -> None:
    said = faults(GOOD + '[schedule]\ncron = "0 0 31 2 *"\n')

    assert said[0].startswith("line 16: schedule: Invalid cron expression: ")


@pytest.mark.parametrize("layout", ["%d %b", "%d %B %H:%M", "%H:%M", "%%Y-%m-%d"])
def test_a_layout_without_a_year_is_refused_and_none_is_guessed(layout: str) -> None:
    dated = 'at = {{ path = "at", type = "datetime", format = "{}" }}\n[store]'
    named = [dated.format(one) for one in (layout, "%d %b %Y", "%y%m%d", "%G-W%V-%u", "unix_ms")]

    refused, *taken = (GOOD.replace("[store]", one) for one in named)

    assert faults(refused) == [
        "line 14: extract.fields.at.format: has no year, which would be guessed"
        " (add %Y, or leave it out)"
    ]
    for text in taken:
        load(text)


TWICE = {
    "paginate.param": '[paginate]\ntype = "page"\nparam = "q"\nmax_pages = 2\n',
    "paginate.size_param": (
        '[paginate]\ntype = "cursor"\npath = "c"\nmax_pages = 2\nsize = 5\nsize_param = "q"\n'
    ),
    "incremental.param": '[incremental]\nparam = "q"\n',
    "auth.name": '[auth]\ntype = "query"\nname = "q"\nvalue = "secret:KEY"\n',
    "request.params.q": '[request]\nparams = { q = "x" }\n',
}
BARE = """
name = "books"
kind = "json"
url = "https://shop.test/books?q=own"
[extract.fields]
id = "id"
[store]
key = "id"
"""


@pytest.mark.parametrize("pair", list(combinations(TWICE, 2)), ids=" and ".join)
def test_two_that_send_one_parameter_are_a_fault(pair: tuple[str, str]) -> None:
    if all(name.startswith("paginate") for name in pair):
        both = TWICE["paginate.param"] + 'size = 5\nsize_param = "q"\n'
    else:
        both = "".join(TWICE[name] for name in pair)

    (said,) = faults(BARE + both)

    assert all(name in said for name in (*pair, "'q'")), said


@pytest.mark.parametrize("one", TWICE)
def test_a_parameter_may_replace_one_of_the_url_and_of_the_body(one: str) -> None:
    posted = '[request]\nmethod = "POST"\njson = { q = 1 }\n'

    load(BARE + TWICE[one])
    if not one.startswith("request"):
        load(BARE + TWICE[one] + posted)


def test_a_credential_in_a_header_that_the_recipe_sets_too_is_a_fault() -> None:
    auth = '[auth]\ntype = "header"\nname = "X-Key"\nvalue = "secret:KEY"\n'

    (said,) = faults(BARE + auth + '[http]\nheaders = { x-key = "a" }\n')

    assert "auth.name" in said
    assert "http.headers" in said


def test_a_member_of_each_that_no_header_can_carry_is_a_fault() -> None:
    each = '[request]\neach = ["Bonn", "München"]\n[http]\nheaders = { x-city = "{each}" }\n'

    assert faults(BARE + each) == [
        "line 12: http.headers.x-city: is not printable ASCII with 'München' (encode it in"
        " request.each)"
    ]

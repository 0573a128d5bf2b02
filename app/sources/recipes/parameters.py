"""Faults of the parameters and headers that a recipe sends. Pure."""

from collections.abc import Iterator, Sequence

from app.sources.recipes.auth_blocks import RecipeHeaderKey, RecipeQueryKey
from app.sources.recipes.model import Recipe
from app.sources.recipes.templates import fill

KeyPath = tuple[str | int, ...]
Sent = tuple[KeyPath, str]  # where a recipe names a parameter, and the name


def repeated_names(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Yield a fault for each setting that sends what another sends already: one would be lost.

    Those of the URL and of the JSON body are none: they are replaced.
    """
    query: list[Sent] = [(("request", "params", name), name) for name in recipe.request.params]
    if isinstance(recipe.auth, RecipeQueryKey):
        query.append((("auth", "name"), recipe.auth.name))
    paging = [*_paging(recipe)]
    in_body = isinstance(recipe.request.json_, dict)
    for sent in (query, paging) if in_body else ([*query, *paging],):
        yield from _repeated(sent)
    if isinstance(recipe.auth, RecipeHeaderKey) and recipe.auth.name.lower() in recipe.http.headers:
        name = recipe.auth.name.lower()
        yield ("auth", "name"), f"is the header {name!r}, which http.headers has too; remove one"


def unsendable_headers(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Yield a fault for each header that a member of `request.each` makes one that none can be."""
    for name, text in recipe.http.headers.items():
        for member in recipe.request.each:
            if not (fill(text, member).isascii() and fill(text, member).isprintable()):
                shown = " ".join(member.values())[:60]
                problem = f"is not printable ASCII with {shown!r}; encode it in request.each"
                yield ("http", "headers", name), problem
                break


def _paging(recipe: Recipe) -> Iterator[Sent]:
    """Yield the parameters of the cursor of earlier runs, of the page and of its size."""
    if recipe.incremental is not None and recipe.incremental.param is not None:
        yield ("incremental", "param"), recipe.incremental.param
    paginate = recipe.paginate
    if (param := getattr(paginate, "param", None)) is not None:
        yield ("paginate", "param"), param
    size_param = getattr(paginate, "size_param", None)
    if size_param is not None and getattr(paginate, "size", None) is not None:
        yield ("paginate", "size_param"), size_param


def _repeated(sent: Sequence[Sent]) -> Iterator[tuple[KeyPath, str]]:
    first: dict[str, KeyPath] = {}
    for where, name in sent:
        other = first.setdefault(name, where)
        if other != where:
            key = ".".join(map(str, other))
            yield where, f"is the parameter {name!r}, which {key} sends too; rename or remove one"

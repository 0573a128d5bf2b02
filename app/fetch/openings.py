"""From what a recipe says to how its window is: how hard it asks, and who it says we are."""

from collections.abc import Callable

from pydantic import SecretStr

from app.fetch.auth import ApiKey, ClientCredentials, Login
from app.fetch.keyed import HeaderKey, Key, NamePassword, Opening, QueryKey
from app.recipes.model import Auth, Basic, Bearer
from app.recipes.model import HeaderKey as HeaderBlock
from app.recipes.model import QueryKey as QueryBlock
from app.recipes.source import RecipeSource

Resolve = Callable[[str], SecretStr]
"""Gives the secret that a reference (`env:NAME`, `secret:NAME`) stands for."""


def opening(source: RecipeSource, resolve: Resolve) -> Opening:
    """How its window is to be."""
    auth = source.recipe.auth
    login = None if auth is None else login_of(auth, resolve)
    return Opening(source.limits, login, source.recipe.retry.attempts)


def login_of(auth: Auth, resolve: Resolve) -> Login | Key:
    """Who we are to the site."""
    match auth:
        case Bearer():
            return ApiKey(resolve(auth.token), auth.token)
        case HeaderBlock():
            return HeaderKey(auth.name, resolve(auth.value), auth.value)
        case QueryBlock():
            return QueryKey(auth.name, resolve(auth.value), auth.value)
        case Basic():
            return NamePassword(auth.username, resolve(auth.password), auth.password)
        case _:
            secret = resolve(auth.client_secret)
            where = (auth.token_url, auth.client_id)
            return ClientCredentials(*where, secret, auth.scope, auth.client_secret)

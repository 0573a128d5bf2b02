"""The options of a recipe's fetcher: rate limits, credentials and attempts."""

from collections.abc import Callable

from pydantic import SecretStr

from app.fetch.authenticated import HeaderKey, Key, NamePassword, Opening, QueryKey
from app.fetch.tokens import ApiKey, ClientCredentials, Login
from app.sources.recipes.model import Auth, Basic, Bearer
from app.sources.recipes.model import HeaderKey as HeaderBlock
from app.sources.recipes.model import QueryKey as QueryBlock
from app.sources.recipes.source import RecipeSource

Resolve = Callable[[str], SecretStr]
"""Returns the secret for a reference (`env:NAME`, `secret:NAME`)."""


def opening(source: RecipeSource, resolve: Resolve) -> Opening:
    """The options of the fetcher of `source`. Raises what `resolve` raises."""
    auth = source.recipe.auth
    login = None if auth is None else login_of(auth, resolve)
    return Opening(source.limits, login, source.recipe.retry.attempts)


def login_of(auth: Auth, resolve: Resolve) -> Login | Key:
    """The credentials for an `[auth]` block, with secrets resolved."""
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
            endpoint = (auth.token_url, auth.client_id)
            return ClientCredentials(*endpoint, secret, auth.scope, auth.client_secret)

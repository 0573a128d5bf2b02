"""The options of a recipe's fetcher: rate limits, credentials and attempts."""

from collections.abc import Callable

from pydantic import SecretStr

from app.fetch.authenticated import (
    BasicCredential,
    BearerCredential,
    FetcherOptions,
    HeaderCredential,
    Login,
    QueryCredential,
)
from app.fetch.tokens import ClientCredentials
from app.sources.recipes.auth_blocks import Auth, Basic, Bearer
from app.sources.recipes.auth_blocks import RecipeHeaderKey as HeaderBlock
from app.sources.recipes.auth_blocks import RecipeQueryKey as QueryBlock
from app.sources.recipes.source import RecipeSource

SecretResolver = Callable[[str], SecretStr]
"""Returns the secret for a reference (`env:NAME`, `secret:NAME`)."""


def fetcher_options(source: RecipeSource, resolve: SecretResolver) -> FetcherOptions:
    """The options of the fetcher of `source`. Raises what `resolve` raises."""
    auth = source.recipe.auth
    login = None if auth is None else credentials_of(auth, resolve)
    return FetcherOptions(source.limits, login, source.recipe.retry.attempts, source.owner)


def credentials_of(auth: Auth, resolve: SecretResolver) -> Login:
    """The credentials for an `[auth]` block, with secrets resolved."""
    match auth:
        case Bearer():
            return BearerCredential(resolve(auth.token), auth.token)
        case HeaderBlock():
            return HeaderCredential(auth.name, resolve(auth.value), auth.value)
        case QueryBlock():
            return QueryCredential(auth.name, resolve(auth.value), auth.value)
        case Basic():
            return BasicCredential(auth.username, resolve(auth.password), auth.password)
        case _:
            secret = resolve(auth.client_secret)
            endpoint = (auth.token_url, auth.client_id)
            return ClientCredentials(*endpoint, secret, auth.scope, auth.client_secret)

"""Errors of Postgres and Redis in one sentence: what is wrong, which setting, and what to do."""

import socket
import ssl

import asyncpg
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from app.store import db

# No later attempt succeeds until somebody changes a setting, a role or a database.
LASTING_POSTGRES = (
    asyncpg.InvalidAuthorizationSpecificationError,  # also a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
    ssl.SSLCertVerificationError,
)
LASTING_REDIS = (AuthenticationError, NoPermissionError)


# The first that an error is an instance of: how the sentence begins, and the fix.
_REFUSED: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        asyncpg.InvalidPasswordError,
        "Postgres refuses the login of DATABASE_URL",
        "correct its password",
    ),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "Postgres refuses the login of DATABASE_URL",
        "correct its user or sslmode, or allow this machine in the server's pg_hba.conf",
    ),
    (
        asyncpg.InvalidCatalogNameError,
        "Postgres has no such database as DATABASE_URL names",
        "create it with createdb, or correct the name",
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        "Postgres denies a permission",
        "GRANT it to the role of DATABASE_URL, or make that role the database's owner",
    ),
    (
        asyncpg.UndefinedTableError,
        "The database's schema is not that of this code",
        "run `rollcall migrate`",
    ),
    (
        asyncpg.UndefinedColumnError,
        "The database's schema is not that of this code",
        "run `rollcall migrate`",
    ),
    (asyncpg.ClientConfigurationError, "DATABASE_URL cannot be used", "correct it"),
)
_AWAY: tuple[tuple[type[BaseException], str, str], ...] = (
    (socket.gaierror, "its host name is not known", "correct it, or check the DNS"),
    (
        ssl.SSLError,
        "its certificate is not accepted",
        "set sslrootcert to the server's authority, or correct sslmode",
    ),
    (
        ConnectionRefusedError,
        "nothing listens there",
        "start the server, or correct the host and the port",
    ),
    (
        FileNotFoundError,
        "its socket does not exist",
        "start the server, or correct the path",
    ),
    (TimeoutError, "it does not answer", "check the host, the port and the firewall"),
    (BaseException, "the connection failed", "check the server"),
)


def postgres_sentence(error: BaseException) -> str:
    """The error of a connection to Postgres, or of a statement, as one sentence with its fix."""
    text = " ".join(str(error).split()) or type(error).__name__
    for kind, what, fix in _REFUSED:
        if isinstance(error, kind):
            return f"{what} ({text}): {fix}"
    if not isinstance(error, db.UNAVAILABLE):
        return f"Postgres refuses: {text}"
    if isinstance(error, ConnectionError) and "SSL" in text:
        what, fix = "the server has no SSL", "enable it there, or lower sslmode"
    else:
        what, fix = next(rest for kind, *rest in _AWAY if isinstance(error, kind))
    return f"Postgres cannot be reached (DATABASE_URL): {what} ({text}): {fix}"


def is_lasting(error: BaseException) -> bool:
    """Whether no later attempt succeeds until somebody changes something.

    redis-py wraps a refused login in its ConnectionError.
    """
    return isinstance(error, (*LASTING_POSTGRES, *LASTING_REDIS)) or isinstance(
        error.__cause__, LASTING_REDIS
    )


def redis_sentence(error: BaseException) -> str:
    """The error of Redis as one sentence with its fix."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, LASTING_REDIS) or isinstance(error.__cause__, LASTING_REDIS):
        return f"Redis refuses the login of REDIS_URL ({text}): correct its user and password"
    if isinstance(error, OSError | TimeoutError) or "connecting" in text:
        return f"Redis cannot be reached (REDIS_URL): {text}: start it, or correct the URL"
    return f"Redis cannot be used (REDIS_URL): {text}"


def sentence(error: BaseException) -> str:
    """The error of either server."""
    return redis_sentence(error) if isinstance(error, RedisError) else postgres_sentence(error)

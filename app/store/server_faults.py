"""Errors of Postgres and Redis in one sentence: what is wrong, which setting, and what to do."""

import socket
import ssl
import traceback

import asyncpg
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import TimeoutError as RedisTimeout

from app.store import db

# No later attempt succeeds until somebody changes a setting, a role or a database.
LASTING_POSTGRES = (
    asyncpg.InvalidAuthorizationSpecificationError,  # also a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
    asyncpg.CantChangeRuntimeParamError,  # an option of the URL
    asyncpg.UndefinedObjectError,  # as above, one that does not exist
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
    *(
        (kind, "The database's schema is not that of this code", "run `rollcall migrate`")
        for kind in (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
    ),
    (asyncpg.ClientConfigurationError, "DATABASE_URL cannot be used", "correct it"),
    *(
        (kind, "Postgres does not take an option of DATABASE_URL", "correct what follows its `?`")
        for kind in (
            asyncpg.CantChangeRuntimeParamError,
            asyncpg.UndefinedObjectError,
            asyncpg.InvalidParameterValueError,
        )
    ),
    (
        asyncpg.DuplicateTableError,
        "The database of DATABASE_URL has tables of something else",
        "name one of Rollcall's own, or an empty one",
    ),
    (
        asyncpg.ReadOnlySQLTransactionError,
        "Postgres is read-only at DATABASE_URL",
        "name the primary server, or let the role write",
    ),
    (
        asyncpg.TooManyConnectionsError,
        "Postgres has no connection left for DATABASE_URL",
        "lower DATABASE_POOL_SIZE, start fewer processes, or raise max_connections there",
    ),
    (
        asyncpg.CannotConnectNowError,
        "The Postgres of DATABASE_URL is starting or stopping",
        "wait until it has started",
    ),
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
    (FileNotFoundError, "its socket does not exist", "start the server, or correct the path"),
    (TimeoutError, "it does not answer", "check the host, the port and the firewall"),
    (BaseException, "the connection failed", "check the server"),
)


# The first of which a text is part of the message: what it means, and the fix.
_REDIS_SAYS: tuple[tuple[str, str, str], ...] = (
    (
        "DB index is out of range",
        "it has no such database",
        "end the URL with one that it has, such as /0",
    ),
    ("MISCONF", "it cannot save its data", "see its log: mostly its disk is full"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not accepted",
        "set REDIS_SSL_CERT_REQS=none if it is self-signed and the server is yours",
    ),
    *(
        (
            text,
            "it closes the connection",
            "if it uses TLS, begin the URL with rediss://; else check that it is a Redis",
        )
        # While it is read, while it is written, and as asyncio says it.
        for text in ("closed by server", "Connection reset", "Broken pipe", "Connection lost")
    ),
)
_REDIS_IS: tuple[tuple[type[BaseException], str, str], ...] = (
    (ReadOnlyError, "it is a replica", "name the primary server"),
    (OutOfMemoryError, "its memory is used up", "raise its maxmemory"),
    (BusyLoadingError, "it is loading its data", "wait until it has loaded them"),
    (InvalidResponse, "no Redis answers there", "correct the host and the port"),
    (
        RedisTimeout,
        "it does not answer",
        "check the host, the port and the firewall; without TLS there, begin the URL with redis://",
    ),
    *(one for one in _AWAY if one[0] is not BaseException),
    (RedisError, "it refuses", "check the server"),
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
        what = "the server has no SSL"
        fix = "enable it there, lower sslmode, or correct the host and the port"
    elif isinstance(error, FileNotFoundError) and _is_certificate(error):
        what = "the file of sslrootcert, sslcert or sslkey does not exist"
        fix = "correct its path"
    else:
        what, fix = next(rest for kind, *rest in _AWAY if isinstance(error, kind))
    return f"Postgres cannot be reached (DATABASE_URL): {what} ({text}): {fix}"


def _is_certificate(error: BaseException) -> bool:
    """Whether the file was opened by the settings of TLS: the error itself names no file."""
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return "_parse_connect_dsn_and_args" in frames


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
    said = (rest for part, *rest in _REDIS_SAYS if part in text)
    causes = (error, error.__cause__, error.__context__)
    is_ = (rest for kind, *rest in _REDIS_IS for one in causes if isinstance(one, kind))
    what, fix = next(said, None) or next(is_)
    return f"Redis cannot be used (REDIS_URL): {what} ({text}): {fix}"


def sentence(error: BaseException) -> str:
    return redis_sentence(error) if isinstance(error, RedisError) else postgres_sentence(error)

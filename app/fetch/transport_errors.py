"""Translation of the errors of httpx and aiohttp into failures."""

import aiohttp
import httpx

from app.core.errors import Failure, Network, Timeout, TooLarge, UnsafeAddress
from app.fetch.exchange_thread import TooManyEvents

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)
_INVALID_URL_ERRORS = (
    httpx.UnsupportedProtocol,
    httpx.RemoteProtocolError,  # httpx raises it for a redirect to an invalid URL
    httpx.InvalidURL,
    ValueError,  # aiohttp's errors for invalid URLs are ValueErrors
)

_LINE_TOO_LONG = "Got more than"  # of aiohttp's LineTooLong, which is not in the cause chain


def to_failure(error: BaseException, url: str) -> Failure:
    """The failure for a transport error. `url` must have its secrets masked.

    The transport reports every lost connection as a ConnectTimeout, so the cause is classified.
    """
    cause = (error.__cause__ if isinstance(error, httpx.HTTPError) else None) or error
    if isinstance(cause, TimeoutError | httpx.TimeoutException):
        return Timeout(_with_cause("no response in time", cause), url=url)
    if isinstance(cause, aiohttp.ClientResponseError):
        if cause.message.startswith(_LINE_TOO_LONG):
            return TooLarge("a response header exceeds the size limit", url=url)
        return Network("the response is not valid HTTP", url=url)
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):  # a ValueError too
        return Network("the site's TLS certificate is invalid", url=url, retry=False)
    if isinstance(cause, _INVALID_URL_ERRORS) or isinstance(error, httpx.UnsupportedProtocol):
        return UnsafeAddress("a URL that cannot be requested", url=url)
    return _broken_connection(cause, url)


def _broken_connection(cause: BaseException, url: str) -> Network:
    if isinstance(cause, TooManyEvents):
        return Network(f"the response was refused: {cause}", url=url, retry=False)
    return Network(_with_cause("the connection was lost", cause), url=url)


def _with_cause(message: str, cause: BaseException) -> str:
    return f"{message} ({type(cause).__name__})"


def is_connection_failure(failure: BaseException | None) -> bool:
    """Whether `failure` means that no connection was made."""
    error = failure.__cause__ if isinstance(failure, Network | Timeout) else None
    cause = (error.__cause__ if isinstance(error, httpx.HTTPError) else None) or error
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return False
    return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)

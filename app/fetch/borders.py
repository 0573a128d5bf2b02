"""The border: what httpx and aiohttp raise, said in our words."""

import aiohttp
import httpx

from app.errors import Failure, Network, Timeout, TooLarge, Unsafe

FOREIGN = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)
_UNREADABLE = (
    httpx.UnsupportedProtocol,
    httpx.RemoteProtocolError,  # httpx itself, of a redirect that is no address
    httpx.InvalidURL,
    ValueError,
)  # aiohttp's are ValueError

_TOO_LONG = "Got more than"  # of aiohttp's LineTooLong, which is not in the chain of causes


def translated(error: BaseException, url: str) -> Failure:
    """The failure that `error` means. `url` has no secrets.

    The transport calls every lost connection a ConnectTimeout, so its cause is what counts.
    """
    cause = (error.__cause__ if isinstance(error, httpx.HTTPError) else None) or error
    if isinstance(cause, TimeoutError | httpx.TimeoutException):
        return Timeout(_named("no answer in time", cause), url=url)
    if isinstance(cause, aiohttp.ClientResponseError):
        return _garbled(cause, url)
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return Network("the site's certificate is not good", url=url, retry=False)
    if isinstance(cause, _UNREADABLE) or isinstance(error, httpx.UnsupportedProtocol):
        return Unsafe("an address that cannot be asked", url=url)
    return Network(_named("the connection broke", cause), url=url)


def _garbled(cause: aiohttp.ClientResponseError, url: str) -> Failure:
    if cause.message.startswith(_TOO_LONG):
        return TooLarge("a header is longer than we read", url=url)
    return Network("the answer is not HTTP", url=url)


def _named(message: str, cause: BaseException) -> str:
    return f"{message} ({type(cause).__name__})"


def unreached(failure: BaseException | None) -> bool:
    """Whether `failure`, one of ours, means that no connection was made at all."""
    error = failure.__cause__ if isinstance(failure, Network | Timeout) else None
    cause = (error.__cause__ if isinstance(error, httpx.HTTPError) else None) or error
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return False
    return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)

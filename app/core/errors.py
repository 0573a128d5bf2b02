"""The exceptions of the application. Every kind of `Failure` is one way in which a page is lost."""

import errno
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Self, TypeVar
from uuid import UUID

from app.core.enums import FailureKind
from app.core.messages import RawPage

Kind = TypeVar("Kind", bound="Failure")


class RollcallError(Exception):
    """Base class of all errors that the application raises on purpose."""


class BadConfig(RollcallError):
    """One or more settings are invalid. The message lists them, one per line."""


class FileUnusable(RollcallError):
    """A file cannot be read or written. Names it and the reason."""

    @classmethod
    def from_error(cls, error: OSError, path: object = None) -> Self:
        """The error of `path`, or of the file that the error itself names."""
        reason = error.strerror or type(error).__name__
        return cls(f"{path or error.filename or 'a file'} cannot be used: {reason}")


def file_reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file cannot be read, in words."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 (byte {error.start + 1})"
    return (error.strerror or type(error).__name__).lower()


_FILE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


def is_of_a_file(error: OSError) -> bool:
    """Whether the error is one of a file, and not of a connection."""
    return error.filename is not None or error.errno in _FILE_ERRNOS


class BadSchedule(RollcallError):
    """A schedule or its policies are invalid. The message says why."""


class UnknownJob(RollcallError):
    """No job has that name. The message lists the known ones."""


class UnknownTick(RollcallError):
    """The schedule has no tick at that instant."""


class UnknownRun(RollcallError):
    """No run has that id."""


class WrongState(RollcallError):
    """What was asked for is not possible in the present state, such as cancelling an ended run."""


class BadParameters(RollcallError):
    """A run was asked for with parameters that its job does not take."""


class BadJob(RollcallError):
    """A job is declared wrongly. The message begins with file and line, and says how to fix it."""


class BadResult(RollcallError):
    """A job returned, or was to store, what cannot be stored. The message says what and why."""


class RunDeferred(RollcallError):
    """A job asks for its run to be postponed. `until`: aware."""

    def __init__(self, until: datetime, reason: str) -> None:
        super().__init__(reason)
        self.until = until
        self.reason = reason


class UnknownOrg(RollcallError):
    """There is no organisation of that name, or the name is not unique."""


class Unauthorized(RollcallError):
    """The token is unknown, expired, revoked or of a disabled organisation.

    The message does not say which.
    """


class OverLimit(RollcallError):
    """A request exceeds a limit of the organisation. The message names the limit and its value."""


class BadPreset(RollcallError):
    """A collection's preset cannot run. The message says why."""


class OrgDisabled(RollcallError):
    """The organisation of the run was disabled after the run was queued."""


class NotFound(RollcallError):
    """The organisation has nothing of that id. Does not reveal whether another one has."""


class Gone(RollcallError):
    """What was there is no longer kept."""


class Conflict(RollcallError):
    """The request conflicts with the present state. `run_id`: the blocking run, if it is one."""

    def __init__(self, message: str, run_id: UUID | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class StaleEdit(RollcallError):
    """The edit is based on a version that has been replaced since."""


class InvalidValue(RollcallError):
    """A value is well-formed but not acceptable. `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class BadRecipe(RollcallError):
    """A recipe has faults. `faults`: each with its line, key, problem and fix."""

    def __init__(self, faults: Sequence[object]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class WrongSchema(RollcallError):
    """The database schema is older or newer than this code. The message names both and the fix."""


class ServersUnavailable(RollcallError):
    """The private Postgres or Redis cannot be started. The message says what to install or set."""


class LeaseLost(RollcallError):
    """The attempt has lost its lease: another attempt may be writing, so this one must not."""

    def __init__(self, run_id: object, what: str = "belongs to another attempt") -> None:
        super().__init__(f"run {run_id} {what}")


class Failure(RollcallError):
    """A page could not be fetched or parsed.

    `retry`: whether trying again soon could help. `retry_in`: seconds that the site asked to wait,
    if it did. `status`: the HTTP status, if there was a response. `url`: without secrets.
    `attempts`: requests made so far.
    """

    kind: ClassVar[FailureKind]

    def change_message(self, change: Callable[[str], str]) -> None:
        """Replace the message by what `change` makes of it."""
        self.args = (change(str(self)),)

    retry: bool = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        url: str | None = None,
        retry: bool | None = None,
        retry_in: float | None = None,
    ) -> None:
        # May contain text from a site; Postgres accepts neither NUL nor lone surrogates.
        super().__init__("".join(c if c.isprintable() else " " for c in message))
        self.status = status
        self.url = url
        self.retry_in = retry_in
        self.attempts = 1
        if retry is not None:
            self.retry = retry

    @classmethod
    def of(cls, page: "RawPage | Failure", message: str, *, retry: bool | None = None) -> Self:
        """A failure with the status and URL of a page, or of another failure."""
        return cls(message, status=page.status, url=page.url, retry=retry)

    def restated(
        self,
        kind: type[Kind],
        message: str,
        *,
        retry: bool | None = None,
        retry_in: float | None = None,
    ) -> Kind:
        """This failure as one of that kind and with that message, after as many attempts."""
        other = kind(message, status=self.status, url=self.url, retry=retry, retry_in=retry_in)
        other.attempts = self.attempts
        return other


class Network(Failure):
    """The connection failed or broke."""

    kind = FailureKind.NETWORK
    retry = True


class Timeout(Failure):
    """The response took too long."""

    kind = FailureKind.TIMEOUT
    retry = True


class RateLimited(Failure):
    """The site asked for a slower rate."""

    kind = FailureKind.RATE_LIMITED
    retry = True


class Blocked(Failure):
    """The site refused access, or sent a page that is not data."""

    kind = FailureKind.BLOCKED


class Auth(Failure):
    """Credentials are missing, wrong or insufficient."""

    kind = FailureKind.AUTH


class HttpStatus(Failure):
    """Any other unsuccessful status."""

    kind = FailureKind.HTTP_STATUS


class ApiError(Failure):
    """HTTP 200 with an error in the body."""

    kind = FailureKind.API_ERROR


class Schema(Failure):
    """The response does not have the expected structure."""

    kind = FailureKind.SCHEMA


class TooLarge(Failure):
    """The response exceeds the size limit."""

    kind = FailureKind.TOO_LARGE


class UnsafeAddress(Failure):
    """The URL leads to a forbidden address."""

    kind = FailureKind.UNSAFE


class LocalNetwork(Failure):
    """This machine's network is down; the site is not at fault."""

    kind = FailureKind.LOCAL_NETWORK


class Expression(Failure):
    """A recipe's expression exceeded its time, memory or output limit."""

    kind = FailureKind.EXPRESSION


class Incomplete(Failure):
    """The end of a listing was not seen, or there are fewer records than the site announced."""

    kind = FailureKind.INCOMPLETE


class Gap(Failure):
    """A stretch of time was not requested, and no later run requests it. The message names it."""

    kind = FailureKind.GAP


class BudgetExceeded(Failure):
    """The run has used up a budget of its organisation. The message names the limit and value."""

    kind = FailureKind.OVER_LIMIT


FAILURES: Mapping[str, type[Failure]] = {one.kind.value: one for one in Failure.__subclasses__()}

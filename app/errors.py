"""Errors, named for what happened.

RollcallError
├── BadConfig             a setting cannot be used; says which, and what it may be
├── BadSchedule           a schedule or its policies can never work
├── UnknownJob            no job of that name; says which there are
├── UnknownRun            no run of that id
├── BadParameters         a run was asked for with parameters its job does not take
├── UnknownOrg            no organisation of that name, or two of one
├── Unauthorized          a token that lets nobody in; never says why
├── OverLimit             an organisation wants more than it may have; names the limit
├── BadPreset             a collection's preset cannot be run: none, empty, or a source of it is odd
├── OrgDisabled           a collection's run whose organisation was shut out meanwhile
├── NotThere              the organisation has nothing of that id
├── Conflicting           it does not go with how things stand; carries the run in its way
├── Outdated              another editor was quicker
├── Unsuitable            a value is understood and cannot be taken; carries its field
├── BadRecipe             a recipe has faults; carries where each is and how to mend it
├── WrongSchema           the database's schema is not that of this code; names both and the mend
├── ServersUnavailable    the private Postgres or Redis cannot be started
├── Fenced                the attempt's lease is gone: neither rows nor outcome are accepted
└── Failure               a page could not be had or read; carries what to do about it
    ├── Network           no connection, or it broke
    ├── Timeout           an answer took too long
    ├── RateLimited       the site asked us to slow down
    ├── Blocked           the site turned us away, openly or with a page that is not data
    ├── Auth              credentials are missing, wrong or not enough
    ├── HttpStatus        any other status that is not an answer
    ├── ApiError          HTTP 200 with an error in the envelope
    ├── Schema            the answer does not have the shape it should
    ├── TooLarge          the answer is bigger than we read
    ├── Unsafe            the address is one we must not visit
    ├── LocalNetwork      our own network is down; nobody else's fault
    ├── Expression        a recipe's expression cost more than it may
    ├── Incomplete        fewer records than the site said there are
    └── Spent             the run has used up what its organisation may; names the limit
"""

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from app.words import FailureKind


class RollcallError(Exception):
    """Anything this house raises on purpose."""


class BadConfig(RollcallError):
    """A setting cannot be used. The message is one readable list."""


class BadSchedule(RollcallError):
    """A schedule or its policies can never work. The message says why."""


class UnknownJob(RollcallError):
    """No job has that name. The message lists those there are."""


class UnknownRun(RollcallError):
    """No run has that id."""


class BadParameters(RollcallError):
    """A run was asked for with parameters that its job does not take."""


class UnknownOrg(RollcallError):
    """There is no organisation of that name, or there is one already."""


class Unauthorized(RollcallError):
    """The token lets nobody in: unknown, expired, revoked or of a disabled organisation.

    Which of these it is, is not said.
    """


class OverLimit(RollcallError):
    """An organisation wants more than it may have. The message names the limit and its value."""


class BadPreset(RollcallError):
    """A collection has no preset that can be run. The message says what is wrong with it."""


class OrgDisabled(RollcallError):
    """The organisation whose run it is was shut out meanwhile."""


class NotThere(RollcallError):
    """The organisation has nothing of that id. Whether another has, is not said."""


class Conflicting(RollcallError):
    """What is asked for does not go with how things stand. `run_id`: the run in its way."""

    def __init__(self, message: str, run_id: UUID | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class Outdated(RollcallError):
    """Another editor was quicker: what was edited is not what there is."""


class Unsuitable(RollcallError):
    """A value is understood but cannot be taken. `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class BadRecipe(RollcallError):
    """A recipe has faults. `faults`: each with its line, its key, what is wrong, and the mend."""

    def __init__(self, faults: Sequence[object]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class WrongSchema(RollcallError):
    """The database's schema is older or newer than this code. Names both, and what to do."""


class ServersUnavailable(RollcallError):
    """The private Postgres or Redis cannot be started. The message says what to install or set."""


class Fenced(RollcallError):
    """The attempt's lease is gone: another attempt may be writing, so this one must not."""


class Failure(RollcallError):
    """A page could not be had or read.

    `retry`: could asking again soon help? `retry_in`: seconds the site asked us to wait, if it did.
    `status`: the HTTP status, if there was one. `url`: without its secrets.
    """

    kind: ClassVar[FailureKind]
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
        # A site's own words may be in it, and Postgres takes neither NUL nor half a surrogate pair.
        super().__init__("".join(c if c.isprintable() else " " for c in message))
        self.status = status
        self.url = url
        self.retry_in = retry_in
        self.attempts = 1
        if retry is not None:
            self.retry = retry


class Network(Failure):
    """No connection, or it broke."""

    kind = FailureKind.NETWORK
    retry = True


class Timeout(Failure):
    """An answer took too long."""

    kind = FailureKind.TIMEOUT
    retry = True


class RateLimited(Failure):
    """The site asked us to slow down."""

    kind = FailureKind.RATE_LIMITED
    retry = True


class Blocked(Failure):
    """The site turned us away, openly or with a page that is not data."""

    kind = FailureKind.BLOCKED


class Auth(Failure):
    """Credentials are missing, wrong or not enough."""

    kind = FailureKind.AUTH


class HttpStatus(Failure):
    """Any other status that is not an answer."""

    kind = FailureKind.HTTP_STATUS


class ApiError(Failure):
    """HTTP 200 with an error in the envelope."""

    kind = FailureKind.API_ERROR


class Schema(Failure):
    """The answer does not have the shape it should."""

    kind = FailureKind.SCHEMA


class TooLarge(Failure):
    """The answer is bigger than we read."""

    kind = FailureKind.TOO_LARGE


class Unsafe(Failure):
    """The address is one we must not visit."""

    kind = FailureKind.UNSAFE


class LocalNetwork(Failure):
    """Our own network is down; nobody else's fault."""

    kind = FailureKind.LOCAL_NETWORK


class Expression(Failure):
    """A recipe's expression took more time, memory or room than it may."""

    kind = FailureKind.EXPRESSION


class Incomplete(Failure):
    """Fewer records than the site said there are."""

    kind = FailureKind.INCOMPLETE


class Spent(Failure):
    """The run has used up what its organisation may. The message names the limit and its value."""

    kind = FailureKind.OVER_LIMIT

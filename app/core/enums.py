"""Enums of the domain. Those stored in the database are mirrored by CHECK constraints."""

from enum import StrEnum


class TickOutcome(StrEnum):
    """The outcome of a tick. Every decided tick has exactly one."""

    RAN = "ran"
    SKIPPED = "skipped"
    MISSED = "missed"


class TickReason(StrEnum):
    """Why a tick did not run. A tick that ran has none."""

    OVERLAP = "overlap"
    PAUSED = "paused"
    COALESCED = "coalesced"
    SUPERSEDED = "superseded"
    DISABLED = "disabled"
    EXCLUDED = "excluded"
    SCHEDULER_DOWN = "scheduler_down"
    LATE = "late"
    CLOCK_JUMP = "clock_jump"
    UNREADABLE = "unreadable"


SKIP_REASONS = frozenset(
    {
        TickReason.OVERLAP,
        TickReason.PAUSED,
        TickReason.COALESCED,
        TickReason.SUPERSEDED,
        TickReason.DISABLED,
        TickReason.EXCLUDED,
    }
)
MISS_REASONS = frozenset(TickReason) - SKIP_REASONS


class VersionReason(StrEnum):
    """Why a schedule version was made."""

    CREATED = "created"
    EDITED = "edited"
    REVIVED = "revived"
    ZONE_DATA = "zone_data"


class RunStatus(StrEnum):
    """The status of a run. `queued` and `running` are open, the rest are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    PARTIAL_FAILURE = "partial_failure"
    FAILURE = "failure"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


OPEN_STATUSES = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})


class Trigger(StrEnum):
    """What created a run. Only a scheduled run has a tick; a replay makes no requests."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    BACKFILL = "backfill"
    REPLAY = "replay"


class ChangeKind(StrEnum):
    """What a change is: of an item, of the status of a run, or of a collection's health."""

    NEW = "new"
    CHANGED = "changed"
    MISSING = "missing"
    RETURNED = "returned"
    RUN = "run"
    HEALTH = "health"


class DeliveryState(StrEnum):
    """What became of a webhook's delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"


class Coalesce(StrEnum):
    """Which of several ticks that are due at once run."""

    LATEST = "latest"
    ALL = "all"
    NONE = "none"


class Overlap(StrEnum):
    """What to do with a tick whose schedule still has an open run."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    CANCEL_RUNNING = "cancel_running"
    ALLOW = "allow"


class JobStatus(StrEnum):
    """The health status of a job."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    NOT_STARTED = "not_started"
    PAUSED = "paused"


class HealthReason(StrEnum):
    """Why a job has a status other than healthy."""

    NEVER_RAN = "never_ran"
    OVERDUE = "overdue"
    FAILING = "failing"
    SOURCE_FAILING = "source_failing"
    SKIP_STREAK = "skip_streak"
    LATE = "late"
    STALE_DATA = "stale_data"
    DRIFT = "drift"
    DISABLED = "disabled"
    PAUSED = "paused"
    UNREADABLE = "unreadable"
    ORPHANED = "orphaned"
    UNKNOWN = "unknown"


class FailureKind(StrEnum):
    """The kind of a failure, stored as `error_type`."""

    NETWORK = "network"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    BLOCKED = "blocked"
    AUTH = "auth"
    HTTP_STATUS = "http_status"
    API_ERROR = "api_error"
    SCHEMA = "schema"
    TOO_LARGE = "too_large"
    UNSAFE = "unsafe"
    LOCAL_NETWORK = "local_network"
    EXPRESSION = "expression"
    EXPECTATION = "expectation"
    INCOMPLETE = "incomplete"
    GAP = "gap"
    OVER_LIMIT = "over_limit"
    STORAGE_FULL = "storage_full"


class Market(StrEnum):
    """Football markets that every odds site has."""

    # Enum's own is in Python, and parsing one listing calls it 200,000 times.
    __hash__ = str.__hash__

    MATCH_RESULT = "1x2"
    OVER_UNDER = "over_under"
    BOTH_TEAMS_TO_SCORE = "btts"
    DOUBLE_CHANCE = "double_chance"


class MarketOutcome(StrEnum):
    """An outcome of a market that can be bet on."""

    __hash__ = str.__hash__  # as above

    HOME = "home"
    DRAW = "draw"
    AWAY = "away"
    OVER = "over"
    UNDER = "under"
    YES = "yes"
    NO = "no"
    HOME_DRAW = "home_draw"
    HOME_AWAY = "home_away"
    DRAW_AWAY = "draw_away"


class EventChange(StrEnum):
    """A change of an event other than its prices."""

    KICKOFF = "kickoff"
    TEAMS = "teams"
    COMPETITION = "competition"
    WITHDRAWN = "withdrawn"
    RETURNED = "returned"


class Scope(StrEnum):
    """The permission of a token. Each scope includes those before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def allows(self, wanted: "Scope") -> bool:
        """Return whether a token of this scope permits an action that requires `wanted`."""
        order = list(Scope)
        return order.index(self) >= order.index(wanted)


class StoreMode(StrEnum):
    """How an item is stored if its key exists already."""

    UPSERT = "upsert"
    APPEND = "append"
    APPEND_ON_CHANGE = "append_on_change"


COLLECTION_TASK = "collection"  # the task of every organisation's schedule
SOURCE_TASK = "source"  # the task of every recipe of the operator; its job is `source:<name>`


class AuditAction(StrEnum):
    """What a person did. Edits and pauses of schedules are in `schedule_edits`."""

    RUN = "run"
    CANCEL = "cancel"
    RETRY = "retry"
    BACKFILL = "backfill"
    STOP_BACKFILL = "stop_backfill"
    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    UNACKNOWLEDGE = "unacknowledge"


class AlertSeverity(StrEnum):
    """What an alert reports. The values are Apprise's notification types."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"


class TrendKind(StrEnum):
    """What the runs of a trend are counted by."""

    SOURCE = "source"
    JOB = "job"

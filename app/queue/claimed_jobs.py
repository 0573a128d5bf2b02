"""Jobs as they were claimed, with what arq's `run_job` would ask Redis for before it runs one."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from arq.connections import ArqRedis


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this worker has claimed. `body`: None if Redis has lost it. `tries`: with this."""

    id: str
    score: int
    body: bytes | None
    tries: int

    @classmethod
    def read(cls, flat: list[Any]) -> "list[ClaimedJob]":
        """The jobs of a claim's answer."""
        return [
            cls(flat[i].decode(), int(flat[i + 1]), flat[i + 2], int(flat[i + 3]))
            for i in range(0, len(flat), 4)
        ]


@dataclass(slots=True)
class FetchedJobs:
    """Hands the claimed job to `run_job` of the same task, in place of its first pipeline."""

    _job: ContextVar[ClaimedJob | None] = field(
        default_factory=lambda: ContextVar("claimed_job", default=None)
    )

    def give(self, job: ClaimedJob) -> None:
        """Answer the first commands of this task with the job."""
        self._job.set(job)

    def take(self) -> ArqRedis | None:
        """The client that answers with the job given to this task; None if it was taken."""
        job = self._job.get()
        if job is None:
            return None
        self._job.set(None)
        return cast("ArqRedis", _Answer(job))


class _Answer:
    """The client and the pipeline of GET, INCR and EXPIRE, answered by the claim."""

    def __init__(self, job: ClaimedJob) -> None:
        self._job = job

    def pipeline(self, *, transaction: bool) -> Self:
        del transaction
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def get(self, key: str) -> None:
        """The body is known."""

    def incr(self, key: str) -> None:
        """The claim has counted the try."""

    def expire(self, key: str, seconds: int) -> None:
        """The claim has done it."""

    async def execute(self) -> tuple[bytes | None, int, bool]:
        """The answers to the three."""
        return self._job.body, self._job.tries, True

"""A kit for tests of own jobs: runs in process, a pretend web, a clock that is set, a crash test.

`lab` opens a real Postgres and Redis of its own; `contract` kills a worker at each moment of a run
and checks that the job is safe to repeat.
"""

from app.jobs.testing.crash import CONTRACT_MOMENTS, CrashReport, contract
from app.jobs.testing.lab import Lab, LabClock, RunResult, lab
from app.jobs.testing.web import PretendWeb

__all__ = [
    "CONTRACT_MOMENTS",
    "CrashReport",
    "Lab",
    "LabClock",
    "PretendWeb",
    "RunResult",
    "contract",
    "lab",
]

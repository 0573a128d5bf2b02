"""Own jobs in the tick benchmark: each with a typed parameter, a line of progress and stats."""

import sys

from scripts.bench import ticks_worker
from scripts.bench.timing import Stopwatch
from workers.job import Job, job
from workers.run import Run


def own_job(number: int, count: int, watch: Stopwatch) -> Job:
    """Return the job of that number, which does what own jobs usually do besides their work."""

    @job(name=f"tick-{number}", schedules=ticks_worker.schedules_of(number, count), retries=1)
    async def tick(run: Run, *, region: str = "ng") -> dict[str, object]:
        watch.start(number)
        await run.progress(1, of=1)
        return {"stored": 1, "region": region}

    return tick


if __name__ == "__main__":
    sys.exit(ticks_worker.main(own_job))

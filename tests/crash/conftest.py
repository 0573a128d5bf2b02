"""The crash matrix is played as a whole, several cases at once, each with its own databases."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis import Redis

from app.embedded import Servers
from scripts.standin.testing import Standin
from tests import servers as real
from tests.crash.harness import Case, Left, Stage, play

AT_ONCE = 8
FIRST_REDIS = 16

# Seconds for which a worker told to stop lingers at the moment: longer than its grace, so that it
# is cancelled there, but where it writes something down and must not be.
MOMENTS = {
    "after_tick_insert": 60,
    "after_commit_before_enqueue": 60,
    "after_enqueue": 60,
    "after_claim": 1,
    "after_page_1": 60,
    "after_page_3": 60,
    "before_outcome": 1,
    "after_outcome_before_health": 60,
}
CASES = tuple(
    Case(moment, name, waits if name == "SIGTERM" else 0)
    for moment, waits in MOMENTS.items()
    for name in ("SIGKILL", "SIGTERM")
)


@pytest.fixture(scope="session")
def crash_web() -> Iterator[Standin]:
    """A pretend web that stands still, with more than one page of matches a site."""
    with Standin.start(events=120) as web:
        yield web


@pytest.fixture(scope="session")
def stage(
    servers: Servers,
    template: str,
    worker_id: str,
    crash_web: Standin,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, int], Awaitable[Stage]]:
    """Makes the corner of one case: a database, a place in Redis, a folder."""
    folder = tmp_path_factory.mktemp("crash")

    async def made(name: str, place: int) -> Stage:
        database = f"crash_{worker_id}_{name}"
        dsn = await real.create_database(servers, database, template=template)
        return Stage(dsn, _redis_url(servers, worker_id, place), crash_web, folder / name)

    return made


@pytest.fixture(scope="session")
def matrix(
    request: pytest.FixtureRequest, stage: Callable[[str, int], Awaitable[Stage]]
) -> dict[Case | None, Left | Exception]:
    """What every case that this session asks for left behind, and a calm run (None)."""
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    cases = {spec.params["case"] for spec in asked if spec is not None and "case" in spec.params}
    wanted = [None, *(case for case in CASES if case in cases)]
    return asyncio.run(_played(wanted, stage))


async def _played(
    wanted: list[Case | None], stage: Callable[[str, int], Awaitable[Stage]]
) -> dict[Case | None, Left | Exception]:
    places: asyncio.Queue[int] = asyncio.Queue()
    for place in range(AT_ONCE):
        places.put_nowait(place)

    async def played(case: Case | None) -> Left | Exception:
        place = await places.get()
        try:
            return await play(await stage(str(case), place), case)
        except Exception as error:  # noqa: BLE001 - the case's own test shall fail, not all
            return error
        finally:
            places.put_nowait(place)

    ended = await asyncio.gather(*(played(case) for case in wanted))
    return dict(zip(wanted, ended, strict=True))


def _redis_url(servers: Servers, worker_id: str, place: int) -> str:
    worker = 0 if worker_id == "master" else int(worker_id.removeprefix("gw"))
    number = FIRST_REDIS + worker * AT_ONCE + place
    assert number < real.REDIS_DATABASES, "too many pytest-xdist workers for this matrix"
    url = f"{servers.redis_url.partition('?')[0]}?db={number}"
    with Redis.from_url(url) as redis:  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        redis.flushdb()  # pyright: ignore[reportUnknownMemberType] - bare kwargs
    return url

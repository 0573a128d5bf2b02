"""A database with hostile, long and right-to-left texts on every page."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from starlette.routing import Route

from app.core.enums import RunStatus, TickReason
from app.core.records import JSON, Item
from app.health.alerts.watch import AlertContext, check
from app.store.reports import metrics
from app.web.dashboard.routes import page_routes
from tests.clock import SettableClock
from tests.dashboard.collected import AWAY, DRAW, HOME, HOSTILE, OVER, UNDER, collected, event
from tests.dashboard.fixtures import BAD, GOOD, Fate, Scene
from tests.runs.harness import Desk, ended

LONG = "An extraordinarily long name without end " * 6


async def fill(scene: Scene) -> list[str]:
    """Some of everything, with hostile, long and right-to-left texts; the paths of the pages."""
    known = await collected(scene)
    start = event(known.now, "betpawa", home=HOSTILE, competition=LONG)
    for number in range(24):
        moved = tuple(
            replace(price, price=(price.price or Decimal(2)) + Decimal(number % 7) / 20)
            for price in (HOME, DRAW, AWAY, OVER, UNDER)
        )
        ago = timedelta(hours=24 - number)
        await known.odds(replace(start, prices=moved), ago, run=number % 3)
        other = (replace(moved[0], active=number % 9 > 2), *moved[1:])
        kept = other if number % 11 else other[1:]
        page = event(known.now, "bet9ja", *kept, competition=LONG)
        await known.odds(page, ago + timedelta(minutes=20), run=number % 3)
    dear = [replace(price, price=Decimal("3.60")) for price in (HOME, DRAW, AWAY)]
    await known.odds(
        replace(start, platform_event_id="2", sportradar_id="2", home="מכבי", prices=tuple(dear)),
        timedelta(minutes=1),
    )
    for number in range(12):
        await known.article(f"{HOSTILE} {number} {LONG}", number % 3 - 1, days=number)
    story = await known.story(HOSTILE, [-0.4, 0.2, 0.9, 0.1, -0.8])
    data: dict[str, JSON] = {
        "title": LONG,
        "price": 3,
        "author": HOSTILE,
        "tags": ["a", "b"],
        "url": "x" * 300,
    }
    await known.items("books", [Item("books", f"k{n}", data) for n in range(8)])
    await known.items("books", [Item("books", "k0", {**data, "price": 4})])
    await known.rejected(LONG, HOSTILE.encode())
    await known.source("bet9ja", error=LONG)
    page_id = await known.page(f"<html>{HOSTILE}</html>".encode(), {"content-type": "text/html"})
    item = await scene.pool.fetchval("SELECT id FROM items WHERE key = 'k0'")
    return [
        "/data/odds", "/data/matches/70000001", "/data/articles", "/data/stories",
        f"/data/stories/{story}", "/data/items", "/data/items/books", f"/data/item/{item}/books",
        "/data/rejected", "/data/sources/bet9ja", f"/data/pages/{page_id}",
        f"/runs/{known.runs[-1]}/pages",
    ]  # fmt: skip


LONG_JOB = "a_job_whose_name_is_as_long_as_somebody_once_wanted_it_to_be_for_no_good_reason"
PRESET = "00000000-0000-4000-8000-000000000001"
NOT_PAGES = {"/live", "/edit/preview", "/edit/schedules", "/data/pages/{page_id:int}/body"}


async def live(scene: Scene) -> dict[str, str]:
    """A database with hostile, long and right-to-left texts; the names that paths need."""
    paths = await fill(scene)
    mixed: list[Fate] = [*[GOOD] * 40, TickReason.OVERLAP, TickReason.LATE, BAD, BAD, BAD, BAD]
    await scene.job(LONG_JOB, mixed)
    await scene.job("poll_news", [*mixed, RunStatus.RUNNING])
    await scene.job("asleep", [GOOD] * 4, paused=f"{HOSTILE} {LONG}")
    await scene.job("silent", [GOOD] * 4, ago=timedelta(hours=2))
    error = (
        "UPDATE runs SET error_message = $1, error_type = 'http_status' WHERE status = 'failure'"
    )
    await scene.pool.execute(error, f"{HOSTILE} {LONG} {'x' * 300}")
    await scene.pool.execute(
        'INSERT INTO audit_log (at, "by", action, job, reason, detail)'
        " VALUES (now(), 'operator/ann', 'run', $1, $2, '{\"params\": {\"depth\": 2}}')",
        LONG_JOB,
        f"{HOSTILE} {LONG}",
    )
    desk = Desk(scene.pool, SettableClock(datetime.now(UTC) - timedelta(hours=20)))
    for number in range(12):
        await ended(desk, 1.0 + number % 5, source=("bet9ja", "betpawa")[number % 2])
        desk.clock.now += timedelta(minutes=80)
    await metrics.fold(scene.pool)
    await scene.publish()
    await check(AlertContext(scene.pool, scene.redis))
    run = await scene.pool.fetchval("SELECT execution_id FROM runs WHERE status = 'failure'")
    return {
        "key": LONG_JOB,
        "at": f"{scene.now:%Y-%m-%dT%H:%M:%SZ}",
        "run_id:uuid": str(run),
        "match:path": "70000001",
        "story_id:int": paths[4].rpartition("/")[2],
        "source:path": "books",
        "item_id:int": paths[7].split("/")[3],
        "page_id:int": paths[10].rpartition("/")[2],
        "collection": "default",
        "preset_id:uuid": PRESET,
        "name": "wares",
    }


def pages(names: dict[str, str], *, org: bool) -> list[str]:
    """The address of every page that the operator has, or an organisation."""
    found: list[str] = []
    for route in page_routes():
        assert isinstance(route, Route)
        edits = route.path.startswith("/edit/")
        if "GET" not in (route.methods or ()) or route.path in NOT_PAGES or edits is not org:
            continue
        path = route.path.replace("/data/sources/{source:path}", "/data/sources/bet9ja")
        for name, value in names.items():
            path = path.replace(f"{{{name}}}", value)
        assert "{" not in path, path
        found.append(path)
    return [*found, "/collections", "/trends", "/runs", "/ticks", "/audit"] if org else found

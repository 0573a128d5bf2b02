"""Scrapy 2.13, for the whole job: the same pages, the same prices, an asyncpg pipeline.

Imports nothing from the project: it runs in its own environment. The pipeline is optimised: it
batches a hundred events and upserts their changed prices, with their history, in one statement.
"""

import argparse
import asyncio
import json
import resource
import time
import urllib.request
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import asyncpg
from scrapy import Request, Spider
from scrapy.crawler import CrawlerRunner
from scrapy.utils.defer import deferred_from_coro, maybe_deferred_to_future
from scrapy.utils.log import configure_logging
from scrapy.utils.reactor import install_reactor

BATCH = 100
MOVED = 0.01
RUN = "00000000-0000-0000-0000-000000000001"

SPORTYBET = {
    "1": ("1x2", {"1": "home", "2": "draw", "3": "away"}),
    "18": ("over_under", {"12": "over", "13": "under"}),
    "10": ("double_chance", {"9": "home_draw", "10": "home_away", "11": "draw_away"}),
    "29": ("btts", {"74": "yes", "76": "no"}),
}
BETPAWA = {
    "3743": ("1x2", {"3744": "home", "3745": "draw", "3746": "away"}),
    "5000": ("over_under", {"5001": "over", "5002": "under"}),
    "3795": ("btts", {"3796": "yes", "3797": "no"}),
    "4693": ("double_chance", {"4694": "home_draw", "4695": "draw_away", "4696": "home_away"}),
}
BET9JA = {
    "S_1X2_1": ("1x2", "home"),
    "S_1X2_X": ("1x2", "draw"),
    "S_1X2_2": ("1x2", "away"),
    "S_GGNG_Y": ("btts", "yes"),
    "S_GGNG_N": ("btts", "no"),
    "S_DC_1X": ("double_chance", "home_draw"),
    "S_DC_12": ("double_chance", "home_away"),
    "S_DC_X2": ("double_chance", "draw_away"),
}
SIDES = {"O": "over", "U": "under"}

EVENTS = """
INSERT INTO odds_events AS e (platform, platform_event_id, sportradar_id, country, competition,
  home, away, kickoff, first_seen_at, updated_at, run_id, seen_at, seen_run_id)
SELECT g.*, $9, $9, $10, $9, $10
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::timestamptz[]) AS g
ON CONFLICT (platform, platform_event_id) DO UPDATE SET seen_at = excluded.seen_at
RETURNING platform, platform_event_id, id
"""
PRICES = """
WITH moved AS (
  INSERT INTO odds_prices (event_id, market, line, outcome, price, active, changed_at, run_id)
  SELECT g.*, $7, $8
  FROM unnest($1::bigint[], $2::text[], $3::numeric[], $4::text[], $5::numeric[], $6::bool[]) AS g
  ON CONFLICT (event_id, market, line, outcome) DO UPDATE SET
    price = excluded.price, active = excluded.active, changed_at = excluded.changed_at
  WHERE odds_prices.price <> excluded.price OR odds_prices.active <> excluded.active
  RETURNING event_id, market, line, outcome, price, active, changed_at, run_id
)
INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active, observed_at, run_id)
SELECT * FROM moved
"""


def price_of(quote: Any) -> Decimal | None:
    if quote in (None, "", "-"):
        return None
    value = Decimal(quote) if isinstance(quote, str) else quote
    return value if value > 1 else None


def read(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal, parse_int=int)


class Odds(Spider):
    """All three sites."""

    name = "odds"

    def __init__(self, web: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.web = web

    async def start(self) -> Any:
        yield self.sportybet(1, set())
        yield self.betpawa(0)
        query = urlencode({"DISP": "0"})
        url = f"{self.web}/bet9ja/PalimpsestAjax/GetSports?{query}"
        yield Request(url, self.groups, dont_filter=True)

    def sportybet(self, number: int, seen: set[str]) -> Request:
        query = urlencode({
            "sportId": "sr:sport:1", "marketId": ",".join(SPORTYBET), "pageSize": "100",
            "pageNum": str(number), "option": "2", "todayGames": "false", "timeline": "720",
        })  # fmt: skip
        url = f"{self.web}/sportybet/factsCenter/pcUpcomingEvents?{query}"
        kept = {"number": number, "seen": seen}
        return Request(url, self.at_sportybet, cb_kwargs=kept, dont_filter=True)

    def at_sportybet(self, response: Any, number: int, seen: set[str]) -> Any:
        data = read(response.body).get("data") or {}
        before = len(seen)
        for tournament in data.get("tournaments") or ():
            for event in tournament["events"]:
                seen.add(event["eventId"])
                yield self.sporty_event(tournament, event)
        if before < len(seen) < data.get("totalNum", 0):
            yield self.sportybet(number + 1, seen)

    def sporty_event(self, tournament: Any, event: Any) -> dict[str, Any]:
        prices: dict[Any, Any] = {}
        for market in event.get("markets") or ():
            name, picks = SPORTYBET.get(str(market["id"]), ("", {}))
            total = (market.get("specifier") or "").removeprefix("total=")
            line = Decimal(total).normalize() if name == "over_under" and total else None
            for outcome in market.get("outcomes") or ():
                price = price_of(outcome.get("odds"))
                if str(outcome["id"]) in picks and price is not None:
                    active = bool(outcome.get("isActive", 1)) and not market.get("status")
                    prices.setdefault((name, line, picks[str(outcome["id"])]), (price, active))
        return {
            "facts": ("sportybet", event["eventId"], event["eventId"].removeprefix("sr:match:"),
                      tournament.get("categoryName") or "", tournament.get("name") or "",
                      event["homeTeamName"], event["awayTeamName"],
                      datetime.fromtimestamp(event["estimateStartTime"] / 1000, UTC)),
            "prices": prices,
        }  # fmt: skip

    def betpawa(self, skip: int) -> Request:
        query = {
            "query": {"eventType": "UPCOMING", "categories": ["2"], "zones": {}, "hasOdds": True},
            "view": {"marketTypes": list(BETPAWA)}, "skip": skip, "take": 100,
            "sort": {"startTime": "ASC"},
        }  # fmt: skip
        words = urlencode({"q": json.dumps({"queries": [query]})})
        headers = {"x-pawa-brand": "betpawa-nigeria", "devicetype": "web",
                   "x-pawa-language": "en", "accept": "application/json"}  # fmt: skip
        return Request(
            f"{self.web}/betpawa/v4/events/lists/by-queries?{words}", self.at_betpawa,
            headers=headers, cb_kwargs={"skip": skip}, dont_filter=True,
        )  # fmt: skip

    def at_betpawa(self, response: Any, skip: int) -> Any:
        events = [e for r in read(response.body)["responses"] for e in r.get("responses") or ()]
        for event in events:
            yield self.pawa_event(event)
        if events:
            yield self.betpawa(skip + 100)

    def pawa_event(self, event: Any) -> dict[str, Any]:
        prices: dict[Any, Any] = {}
        for market in event.get("markets") or ():
            name, picks = BETPAWA.get(str(market["marketType"]["id"]), ("", {}))
            for row in market.get("row") or ():
                for price in row.get("prices") or ():
                    pick, odds = picks.get(str(price["typeId"])), price_of(price.get("odds"))
                    if pick is None or odds is None:
                        continue
                    goals = price.get("handicap") if name == "over_under" else None
                    line = None if goals is None else Decimal(goals).normalize()
                    prices.setdefault((name, line, pick), (odds, not price.get("suspended")))
        teams = {str(p["position"]): p["name"] for p in event["participants"]}
        radar = [w["id"] for w in event.get("widgets") or () if w["type"] == "SPORTRADAR"]
        return {
            "facts": ("betpawa", str(event["id"]), str(radar[0]) if radar else None,
                      event["region"]["name"], event["competition"]["name"], teams["1"],
                      teams["2"], datetime.fromisoformat(event["startTime"])),
            "prices": prices,
        }  # fmt: skip

    def groups(self, response: Any) -> Any:
        tree = read(response.body)["D"]["PAL"]["1"]["SG"]
        for country in tree.values():
            groups = country["G"] if isinstance(country["G"], dict) else {}
            for key, group in groups.items():
                if str(group["NUM"]) == "0":
                    continue
                query = urlencode(
                    {"GROUPID": key, "DISP": "0", "GROUPMARKETID": "1", "matches": "true"}
                )
                url = f"{self.web}/bet9ja/PalimpsestAjax/GetEventsInGroupV2?{query}"
                yield Request(url, self.at_bet9ja, dont_filter=True)

    def at_bet9ja(self, response: Any) -> Any:
        data = read(response.body)["D"]
        events = data.get("E") or [] if isinstance(data, dict) else []
        for event in events.values() if isinstance(events, dict) else events:
            prices: dict[Any, Any] = {}
            for key, quote in (event.get("O") or {}).items():
                pick, line = BET9JA.get(key), None
                if key.startswith("S_OU@"):
                    written, _, side = key.removeprefix("S_OU@").partition("_")
                    pick, line = ("over_under", SIDES.get(side)), Decimal(written).normalize()
                price = price_of(quote) if pick and pick[1] else None
                if price is not None:
                    prices.setdefault((pick[0], line, pick[1]), (price, True))
            home, _, away = event["DS"].partition(" - ")
            at = datetime.fromisoformat(event["STARTDATE"]).replace(tzinfo=UTC)
            radar = str(event["EXTID"]) if event.get("EXTID") else None
            yield {
                "facts": ("bet9ja", str(event["ID"]), radar, event.get("SG") or "",
                          event.get("GN") or "", home, away, at),
                "prices": prices,
            }  # fmt: skip


class Upserts:
    """A pipeline that upserts a hundred events at a time."""

    pool: Any = None
    prices = 0

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    async def process_item(self, item: dict[str, Any], spider: Any) -> dict[str, Any]:  # noqa: ARG002
        self.kept.append(item)
        if len(self.kept) >= BATCH:
            await self.flush()
        return item

    def close_spider(self, spider: Any) -> Any:  # noqa: ARG002
        return deferred_from_coro(self.flush())

    async def flush(self) -> None:
        items, self.kept = self.kept, []
        if not items:
            return
        unlike = {item["facts"][:2]: item for item in items}
        now = datetime.now(UTC)
        async with Upserts.pool.acquire() as connection, connection.transaction():
            facts = sorted(item["facts"] for item in unlike.values())
            columns = map(list, zip(*facts, strict=True))
            rows = await connection.fetch(EVENTS, *columns, now, RUN)
            ids = {(row[0], row[1]): row[2] for row in rows}
            prices = [
                (ids[key], market, line, outcome, price, active)
                for key, item in unlike.items()
                for (market, line, outcome), (price, active) in item["prices"].items()
            ]
            if prices:
                await connection.execute(PRICES, *map(list, zip(*prices, strict=True)), now, RUN)
        Upserts.prices += len(prices)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def advance(web: str) -> None:
    body = json.dumps({"ticks": 1, "share": MOVED}).encode()
    request = urllib.request.Request(f"{web}/control/advance", body, method="POST")  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310 - our own stand-in


async def rounds(asked: argparse.Namespace) -> None:
    Upserts.pool = await asyncpg.create_pool(asked.dsn, min_size=1, max_size=4)
    settings = {
        "ITEM_PIPELINES": {Upserts: 100},
        "CONCURRENT_REQUESTS": 24,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 24,
        "DOWNLOAD_DELAY": 0,
        "COOKIES_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "LOG_LEVEL": "WARNING",
        "TWISTED_REACTOR": "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
    }
    used = taken = 0.0
    for number in range(asked.rounds + 1):
        if number:
            await asyncio.to_thread(advance, asked.web)
        before, began = cpu(), time.perf_counter()
        runner = CrawlerRunner(settings)
        await maybe_deferred_to_future(runner.crawl(Odds, web=asked.web))
        used, taken = used + cpu() - before, taken + time.perf_counter() - began
    await Upserts.pool.close()
    print(json.dumps({"prices": Upserts.prices, "cpu_s": used, "wall_s": taken}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--dsn", "--web"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    configure_logging({"LOG_LEVEL": "WARNING"})
    install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")
    from twisted.internet.task import react  # noqa: PLC0415 - it would install another reactor

    react(lambda _: deferred_from_coro(rounds(asked)))


if __name__ == "__main__":
    main()

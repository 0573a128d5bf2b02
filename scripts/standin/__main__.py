"""The command line of the stand-in sites: `python -m scripts.standin`."""

import argparse
import asyncio
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from scripts.standin.asknews import Access
from scripts.standin.server import Options, StandIn, listening_at

_ABOUT = "Stand-ins for SportyBet, BetPawa, Bet9ja and AskNews on one loopback port."
_EXAMPLES = """examples:
  python -m scripts.standin --port 8900
      the same data every time: 700 events a site, prices change on request only
  python -m scripts.standin --port 8900 --move-every 30 --move-share 0.05
      the prices of one match in twenty change every half minute
  python -m scripts.standin --port 0 --ready-file standin.url
      any free port; the file holds the URL as soon as it answers
  python -m scripts.standin --port 0 --listeners 3 --ready-file standin.urls
      three ports, a URL on each line: three hosts for clients with per-host limits
  curl -X POST localhost:8900/control/advance -d '{"ticks": 1, "share": 0.01}'
  curl -X POST localhost:8900/control/faults \\
      -d '{"path": "/bet9ja", "kind": "status", "status": 503, "times": 3}'
  curl -X DELETE localhost:8900/control/faults
  curl localhost:8900/control/stats

base URLs:
  SPORTYBET_URL=http://127.0.0.1:8900/sportybet/factsCenter
  BETPAWA_URL=http://127.0.0.1:8900/betpawa
  BET9JA_URL=http://127.0.0.1:8900/bet9ja/PalimpsestAjax
  AskNews: http://127.0.0.1:8900/asknews/v1 and http://127.0.0.1:8900/asknews/oauth2/token
"""


def main() -> None:
    """Serve until SIGTERM or SIGINT, then stop at once."""
    asked = _parser().parse_args()
    ports = [asked.port and asked.port + n for n in range(asked.listeners)]
    asyncio.run(_serve(_options(asked), ports, asked.ready_file))


async def _serve(options: Options, ports: Sequence[int], ready_file: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening_at(StandIn(options), ports) as urls:
        if ready_file is not None:
            _write(ready_file, urls)
        print(f"standin listening on {' '.join(urls)}", flush=True)
        await stop.wait()


def _write(ready_file: Path, urls: Sequence[str]) -> None:
    # A reader that waits for the file must never see a partial URL.
    draft = ready_file.with_name(f"{ready_file.name}.draft")
    draft.write_text("".join(f"{url}\n" for url in urls))
    draft.replace(ready_file)


def _options(asked: argparse.Namespace) -> Options:
    access = Access(
        key=asked.asknews_key,
        client_id=asked.asknews_client_id,
        client_secret=asked.asknews_client_secret,
        plan=asked.asknews_plan,
        rate=asked.asknews_rate,
        burst=asked.asknews_burst,
        concurrency=asked.asknews_concurrency,
        token_seconds=asked.asknews_token_seconds,
    )
    return Options(
        seed=asked.seed,
        events=asked.events,
        move_share=asked.move_share,
        move_every=asked.move_every,
        latency=asked.latency,
        betpawa_empty=asked.fault_betpawa_empty,
        start=asked.start,
        access=access,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.standin",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=8900, help="0 for any free port (default: %(default)s)")
    add("--listeners", type=int, default=1, metavar="N", help="ports, from --port on (default: 1)")
    add("--seed", type=int, default=1, help="of all random data (default: %(default)s)")
    add("--events", type=int, default=700, help="matches of each site (default: %(default)s)")
    add("--start", type=_instant, help="first day of kick-offs, ISO 8601, UTC (default: now)")
    add(
        "--move-share",
        type=float,
        default=0.01,
        help="share of matches whose prices change at once (default: %(default)s)",
    )
    add("--move-every", type=float, metavar="SECONDS", help="default: on request only")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="delay before every response")
    add("--ready-file", type=Path, help="receives the base URLs once the ports accept connections")
    add(
        "--fault-betpawa-empty",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of empty pages",
    )
    _add_access(parser)
    return parser


def _add_access(parser: argparse.ArgumentParser) -> None:
    access = Access()
    add = parser.add_argument_group("AskNews").add_argument
    add("--asknews-key", default=access.key)
    add("--asknews-client-id", default=access.client_id)
    add("--asknews-client-secret", default=access.client_secret)
    add("--asknews-plan", choices=("free", "paid"), default=access.plan)
    add("--asknews-rate", type=float, default=access.rate, help="calls a second; 0: no limit")
    add("--asknews-burst", type=int, default=access.burst)
    add("--asknews-concurrency", type=int, default=access.concurrency, help="0: no limit")
    add("--asknews-token-seconds", type=int, default=access.token_seconds)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


if __name__ == "__main__":
    main()

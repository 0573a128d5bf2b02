"""A feed that is broken and read all the same says so in the log of its run."""

from pathlib import Path

from structlog.testing import capture_logs

from app.context import WorkerContext
from tests import worker_harness
from tests.recipes.shop import Shop, ask, write

FEED = """
name = "news"
kind = "feed"
url = "{base}/feed"
[store]
key = "id"
"""
BROKEN = b"""<rss version="2.0"><channel><title>x</title>
<item><title>one</title><guid>1</guid></item>
<item><title>a & b</title><guid>2</guid></item>
</channel></rss>"""


async def test_it_is_logged_and_a_sound_one_is_not(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    said: list[int] = []
    for body in (BROKEN, BROKEN.replace(b"&", b"and")):
        shop.paths["/feed"] = ("200 OK", body, {"content_type": "application/rss+xml"})
        write(folder, "news", FEED.format(base=shop.base))

        with capture_logs() as lines:
            run = await worker_harness.run_row(kitchen.pool, await ask(kitchen, "news"))

        assert run["status"] == "success"
        said.append([line["event"] for line in lines].count("feed.malformed"))
    assert said == [1, 0]

"""A dead man's switch outside hears of each run, and of nothing that it should not."""

from pydantic import SecretStr

from app.core.config import Config
from app.core.enums import RunStatus
from app.health.alerts.heartbeat_pings import HeartbeatPings
from tests.alerts.receiver import Receiver
from tests.wait import until


async def test_a_run_is_told_to_its_address_and_a_failed_one_to_fail_behind_it(
    receiver: Receiver,
) -> None:
    setting = f"poll={receiver.http}/poll, odds={receiver.http}/odds?x=1"
    pings = HeartbeatPings.from_config(
        Config(ping_urls=SecretStr(setting), ping_scheduler_url=SecretStr(f"{receiver.http}/s"))
    )

    async def heard(number: int) -> bool:
        return len(receiver.asked) >= number

    pings.run_ended("poll", RunStatus.SUCCESS)
    await until(lambda: heard(1))
    pings.run_ended("poll", RunStatus.TIMED_OUT)
    await until(lambda: heard(2))
    pings.run_ended("unknown", RunStatus.SUCCESS)
    pings.scheduler()
    await until(lambda: heard(3))
    pings.run_ended("odds", RunStatus.FAILURE)
    await until(lambda: heard(4))
    pings.run_ended("poll", RunStatus.CANCELLED)
    pings.run_ended("poll", RunStatus.PARTIAL_FAILURE)
    await until(lambda: heard(5))
    await pings.close()

    assert receiver.asked == ["/poll", "/poll/fail", "/s", "/odds/fail?x=1", "/poll/fail"]

"""Steps of the machine's clock, as one worker process sees it.

With libfaketime every clock of the process steps but the monotonic one, as on a real machine.
Without it, `time.time` is replaced in the process, which is the clock that alarms go by.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

OFFSET_FILE = "ROLLCALL_DRILL_CLOCK"  # names the file that holds the offset in seconds
_LIBRARIES = (
    "usr/lib/*/faketime/libfaketimeMT.so.1",
    "usr/local/lib/faketime/libfaketimeMT.so.1",
)
_CACHED_SECONDS = "1"  # for which libfaketime does not read the file again


def library() -> Path | None:
    """Return libfaketime's library; None if it is not installed."""
    found = (path for pattern in _LIBRARIES for path in sorted(Path("/").glob(pattern)))
    return next(found, None)


def environment(file: Path, faketime: Path | None) -> Mapping[str, str]:
    """Return the environment of a process whose clock `step` sets, and set its clock right."""
    step(file, 0)
    if faketime is None:
        return {OFFSET_FILE: str(file)}
    return {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": _CACHED_SECONDS,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def step(file: Path, seconds: float) -> None:
    """Set the process's clock `seconds` ahead of the machine's; behind it, if negative."""
    written = file.with_suffix(".new")
    written.write_text(f"{seconds:+g}")
    written.replace(file)


def stepped_clock(file: Path, wall: Callable[[], float]) -> Callable[[], float]:
    """Return a clock that is ahead of `wall` by what the file says."""
    return lambda: wall() + float(file.read_text())


def main() -> None:
    """Run arq's command line by a clock that is stepped, for where libfaketime is not installed."""
    time.time = stepped_clock(Path(os.environ[OFFSET_FILE]), time.time)  # noqa: TID251 - the drill's
    from arq.cli import cli  # noqa: PLC0415 - imported by the replaced clock

    cli()


if __name__ == "__main__":
    main()

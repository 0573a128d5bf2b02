"""Entry point of `python -m app`."""

import gc
import os
import signal


def _interrupted(*_: object) -> None:
    os._exit(130)


if __name__ == "__main__":
    gc.disable()  # until a command is executed: the imports leave nothing to collect
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)  # while modules are imported

    from app.cli.main import main

    main()

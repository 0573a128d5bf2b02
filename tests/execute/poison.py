"""A process that is given a run and kills itself: `python -m tests.execute.poison`."""

import os
import signal

from workers.isolation import read_run

if __name__ == "__main__":
    read_run()
    os.kill(os.getpid(), signal.SIGKILL)

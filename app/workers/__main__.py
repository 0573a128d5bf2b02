"""A worker, as `arq app.workers.Settings` starts it, in 9 MB less: `python -m app.workers`.

The command `arq` imports redis, and with it PyJWT and cryptography, before `app` can prevent it.
"""

import sys

from arq.cli import cli

if __name__ == "__main__":
    cli(["app.workers.Settings", *sys.argv[1:]], prog_name="python -m app.workers")

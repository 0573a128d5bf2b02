"""`python -m app.embedded DATA_DIR LOCK LISTENER`: the keeper, detached from its parent."""

import os
import sys

from app.embedded.keeper import main

if os.fork() == 0:
    # The parent exits at once, so init reaps the keeper.
    main(sys.argv[1:])

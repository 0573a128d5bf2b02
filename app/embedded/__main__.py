"""`python -m app.embedded DATA_DIR LOCK DOOR`: the keeper, cut loose from whoever started it."""

import os
import sys

from app.embedded.keeper import main

if os.fork() == 0:
    # The child of a parent that is gone: nobody has to wait for it.
    main(sys.argv[1:])

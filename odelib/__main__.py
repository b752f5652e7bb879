"""`python -m odelib` is `odelib`."""

import sys

from odelib.cli import main

sys.exit(main())

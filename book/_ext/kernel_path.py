"""Let `!odelib` in a page find the program of the environment that builds the book, activated or not."""

import os
import sys
from pathlib import Path


def setup(app):
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {"parallel_read_safe": True}

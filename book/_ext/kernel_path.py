"""The environment of the pages' kernels: `!odelib` finds the program of the environment that builds the book, activated
or not, and matplotlib's pictures come to the page, whatever backend the builder's shell asks for."""

import os
import sys
from pathlib import Path


def setup(app):
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.pop("MPLBACKEND", None)
    return {"parallel_read_safe": True}

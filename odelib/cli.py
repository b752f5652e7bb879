"""The command line: `odelib train`, `evaluate`, `data`, `show`, `study`, `benchmark` (`odelib.commands`).

It ends every command in one line: what went wrong, or what became of the work. So does a signal while modules are
imported, and a package that is not installed: this module imports the others late.
"""

import contextlib
import io
import itertools
import os
import re
import signal
import sys
from errno import EFBIG, EIO, ENOSPC
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from odelib import __version__
from odelib.errors import Error, OptionError, memory_for, printable
from odelib.signals import Handled, interrupt

# What the extra `train` of pyproject.toml installs, by the names that are imported.
OF_TRAIN = ("torchvision", "numpy", "PIL", "safetensors", "dacite", "filelock", "tqdm", "tyro")


def _must_be_installed() -> None:
    absent = [name for name in OF_TRAIN if find_spec(name) is None]
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        raise Error(f'{", ".join(absent)} {verb} not installed; pip install "odelib[train]"')


def _with_config(argv: list[str]):
    """`train` with all options of a Config; the preset is read first, since it sets their defaults."""
    import argparse
    from dataclasses import dataclass

    from tyro.conf import OmitArgPrefixes, arg

    from odelib import commands
    from odelib.config import Config
    from odelib.presets import PRESETS

    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", nargs="?")
    start = PRESETS.get(peek.parse_known_args(argv)[0].preset, Config())

    @dataclass
    class Train(commands.Train):
        config: OmitArgPrefixes[Config] = start
        preset: Annotated[
            Literal[tuple(PRESETS)] | None,  # type: ignore[valid-type]
            arg(help="start from a named recipe; other options change it"),
        ] = None

    Train.__doc__ = commands.Train.__doc__
    return Train


def _is_rule(line: str) -> bool:
    return line.startswith("─") or set(line) == {"-"}


def _parse(argv: list[str]):
    """The command that `argv` asks for. What tyro would say of bad input in a box becomes one line."""
    import tyro
    from tyro.conf import subcommand

    from odelib import commands

    train: Any = _with_config(argv) if argv[:1] == ["train"] else commands.Train
    known: Any = (
        Annotated[train, subcommand("train")]
        | Annotated[commands.Evaluate, subcommand("evaluate")]
        | Annotated[commands.Data, subcommand("data")]
        | Annotated[commands.Show, subcommand("show")]
        | Annotated[commands.Study, subcommand("study")]
        | Annotated[commands.Benchmark, subcommand("benchmark")]
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(known, prog="odelib", description="Neural ODEs for image classification.", args=argv)
    except SystemExit as stop:
        if stop.code != 2:
            sys.stdout.flush()  # the help; main knows what to do when nobody reads it
            raise
        # A box of parts with rules between them: title (part of the first rule where boxes are drawn), error, hints.
        lines = [line.strip("│╭╮╰╯ ") for line in said.getvalue().splitlines()]
        after_title = itertools.dropwhile(lambda line: not _is_rule(line), lines)
        error = next(part for rule, part in itertools.groupby(after_title, _is_rule) if not rule)
        message = re.sub(r"Error parsing (__tyro-dummy-inner__\S+ )?", "", " ".join(error))
        command = argv[:1] if argv and argv[0] in ("train", "evaluate", "data", "show", "study", "benchmark") else []
        raise OptionError(f"{message} (see {' '.join(['odelib', *command, '--help'])})") from None


_GO_ON = "the same command goes on"


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code.

    0 done; 2 what went wrong, in one line; 70 a fault of odelib's own, whose traceback is in a file; 128 + a signal
    that came; 130 too where nobody reads any more what training prints.
    """
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a class may have a name that the terminal cannot show
    trains = False
    try:
        with Handled(interrupt):
            if argv == ["--version"]:
                print(f"odelib {__version__}")
            else:
                _must_be_installed()
                command = _parse(argv)
                trains = command.trains
                with memory_for(f"odelib {argv[0]}"):
                    command()
        trains = False  # no more
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as head does
        _print_nothing_more()
        if trains:
            print(f"odelib: stopped, since nobody reads what it prints; {_GO_ON}", file=sys.stderr)
            return 130
    except (Error, FloatingPointError, OSError) as error:
        print(f"odelib: {printable(_of_output(error) or str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        said = str(stop) or f"interrupted; {_GO_ON if trains else 'nothing was written'}"
        print(f"odelib: {said}", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)
    except Exception as error:
        print(f"odelib: internal error, please report; traceback in {_kept(error)}", file=sys.stderr)
        return 70
    return 0


def _print_nothing_more() -> None:
    """Send standard output to nowhere, so that Python does not complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _of_output(error: Exception) -> str:
    """What is wrong, if it is that standard output has no room: whoever writes a file names it."""
    if isinstance(error, OSError) and error.filename is None and error.errno in (ENOSPC, EFBIG, EIO):
        _print_nothing_more()
        return f"standard output cannot be written ({error.strerror})"
    return ""


def _kept(error: Exception) -> str:
    """The file that the traceback of an error is written to."""
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile("w", prefix="odelib-", suffix=".txt", encoding="utf-8", delete=False) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:  # no room for it
        traceback.print_exception(error)
        return "the lines above"
    return file.name

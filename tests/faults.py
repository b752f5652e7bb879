"""A process in which runs of a tiny network meet faults; test_faults.py starts it.

    python tests/faults.py SCENARIO FOLDER COUNT

It imports torch once and forks a child for every run, which calls the command line as a user does. What it prints is
one JSON object: `tried`, how often something happened to a run, and `wrong`, one sentence for all that should not be.

    python tests/faults.py record book/results/faults.json

makes the record that the page Status shows, in five minutes of one core.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path

import torch

from odelib import Run, sources
from odelib.book.faults import Fault, Faults
from odelib.cli import main
from odelib.errors import Interrupted
from odelib.records import Environment, load_tensors
from odelib.signals import Handled, interrupt
from odelib.studies import STUDIES, Case, Study

torch.set_num_threads(1)  # a thread would not survive a fork
torch.optim.SGD([torch.zeros(1)])  # what takes long the first time, the children have from here
sources.commit()
OPTIONS = """
    --dataset mnist-sample --train-images 48 --network none --stem one-shot --width 8 --batch-size 16 --dropout 0.2
    --lr 0.02 --device cpu --name a
""".split()  # noqa: SIM905
DONE, REFUSED = 0, 2


def fork(words, before=lambda: None):
    """Begin `odelib words` in a child, after `before`; its process, and the files of what it says."""
    said = Path(f"{scratch}/said-{time.monotonic_ns()}")
    ready, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        return child, said
    code = 70
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for number, ending in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(f"{said}{ending}", os.O_WRONLY | os.O_CREAT), number)
        with Handled(interrupt):
            os.write(tell, b"!")
            before()
            code = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
    except Interrupted as stop:  # before the command began, or after it had ended
        code = 128 + stop.signal
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def ended(child):
    """The exit code of a child, or minus the signal that ended it, and what it said."""
    process, said = child
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return code, *(Path(f"{said}{ending}").read_text() for ending in (".out", ".err"))


def train(folder, *more, epochs=2, before=lambda: None):
    return ended(fork(["train", *OPTIONS, "--epochs", str(epochs), "--out", str(folder), *more], before))


def differences(folder, whole):
    """What of a run is not as in the one that nothing happened to."""
    names = sorted(path.name for path in folder.iterdir())
    if names != ["a-seed0.json", "a-seed0.safetensors"]:
        return f"{names} are there"
    found, expected = (
        [replace(m, seconds=0.0) for m in Run.load(path / "a-seed0.json").metrics] for path in (folder, whole)
    )
    if found != expected:
        return "other metrics"
    tensors, others = (load_tensors(path / "a-seed0.safetensors")[0] for path in (folder, whole))
    same = tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in others)
    return "" if same else "other weights"


def finish(folder, whole, epochs=2):
    """Give the same command again; what is wrong then."""
    code, _, said = train(folder, epochs=epochs)
    finished = code == REFUSED and "holds this run, finished" in said
    return (differences(folder, whole) if code == DONE or finished else f"exit {code}: {said}").strip()


def at_event(folder, number, act):
    """Do something at the `number`-th event of the file system in or below a folder, and at every one after it."""
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        below = any(isinstance(a, (str, Path)) and str(a).startswith(str(folder)) for a in arguments)
        if below or event in ("os.remove", "os.rmdir"):
            seen += 1
            if seen >= number:
                act(event, arguments)

    return lambda: sys.addaudithook(hook)


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def no_space(event, arguments):
    """A full disk takes no new file, folder or name, and gives up what is there."""
    if event in ("os.mkdir", "os.rename") or (event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
        raise OSError(ENOSPC, os.strerror(ENOSPC))


def one_line(code, said, folder):
    fits = (
        code == REFUSED and said.count("\n") == 1 and re.match(rf"odelib: {re.escape(str(folder))}\S* cannot be", said)
    )
    return "" if fits else f"exit {code}: {said!r}"


def every_event(act, check, every, epochs):
    """A fault at every `every`-th event of a run, from the first to the last."""
    whole = scratch / "whole"
    train(whole, epochs=epochs)
    number, tried, wrong = 1, 0, []
    while True:
        folder = scratch / f"{number}"
        code, _, said = train(folder, epochs=epochs, before=at_event(folder, number, act))
        if code == DONE:
            return {"tried": tried, "wrong": wrong}
        tried += 1
        found = check(code, said, folder) or finish(folder, whole, epochs)
        if found:
            wrong.append(f"event {number}: {found}")
        shutil.rmtree(folder)
        number += every


def kills(every):
    return every_event(kill, lambda code, *_: "" if code == -signal.SIGKILL else f"exit {code}", every, epochs=1)


def full_disk(every):
    return every_event(no_space, one_line, every, epochs=1)


def file_sizes(count):
    """No file may grow beyond a size, as if the disk were full then."""
    whole = scratch / "whole"
    train(whole)
    largest = 2 * (whole / "a-seed0.safetensors").stat().st_size
    tried, wrong = 0, []
    for number in range(count):
        size, folder = largest * number // count, scratch / f"{number}"

        def limit(size=size):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            sys.stdout = sys.stderr
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        code, _, _ = train(folder, before=limit)
        tried += code != DONE
        found = "" if code in (DONE, REFUSED) else f"exit {code}"
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        found = found or (f"{left} are left" if left else finish(folder, whole))
        if found:
            wrong.append(f"{size} bytes: {found}")
    return {"tried": tried, "wrong": wrong}


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


def at_random(count):
    """Kills and signals, as they come, until there were so many."""
    chance, tried, wrong = random.Random(count), 0, []
    whole, started = scratch / "whole", time.monotonic()
    options = ("--train-images", "480", "--augment", "crop")
    train(whole, *options)
    took = time.monotonic() - started
    while tried < count:
        folder, code = scratch / f"{tried}", None
        while code != DONE and tried < count:
            child = fork(["train", *OPTIONS, "--epochs", "2", *options, "--out", str(folder)])
            time.sleep(chance.uniform(0, took))
            number = chance.choice(SIGNALS)
            os.kill(child[0], number)
            code, _, said = ended(child)
            tried += 1
            if code == REFUSED and "holds this run, finished" in said:
                code = DONE
            if code not in (DONE, -number if number == signal.SIGKILL else 128 + number):
                wrong.append(f"{number}: exit {code}: {said}")
            elif code > 0 and said and not re.fullmatch(r"odelib: interrupted[^\n]*\n", said):
                wrong.append(f"{number}: {said}")
        code, _, said = train(folder, *options)
        found = differences(folder, whole)
        if code not in (DONE, REFUSED) or found:
            wrong.append(f"trial {tried}: exit {code}: {said} {found}")
    return {"tried": tried, "wrong": wrong}


def shared_study(count):
    """So many processes make the same study at once; no epoch is trained twice."""
    config = replace(Run.load(scratch / "whole" / "a-seed0.json").config, epochs=2)
    STUDIES["speed"] = Study(
        "speed", "?", {"a": Case(config, (0, 1, 2)), "b": Case(replace(config, lr=0.01), (0, 1, 2))}
    )
    words = ["study", "speed", "--out", str(scratch), "--device", "cpu"]
    children = [fork(words) for _ in range(count)]
    found = [ended(child) for child in children]
    wrong = [f"exit {code}: {said}" for code, _, said in found if code != DONE or said]
    epochs = sum(said.count("\nepoch ") for _, said, _ in found)
    if epochs != 12:
        wrong.append(f"{epochs} epochs were trained")
    names = sorted(path.name for path in (scratch / "speed").iterdir())
    if names != sorted(
        f"{case}-seed{seed}.{end}" for case in "ab" for seed in range(3) for end in ("json", "safetensors")
    ):
        wrong.append(f"{names} are there")
    if not any("passed over: " in said for _, said, _ in found):
        wrong.append("nothing was passed over")
    return {"tried": count, "wrong": wrong}


def shared_name(_):
    """Two configs under one name at once: the second one is told who has it."""
    words = ["train", *OPTIONS, "--epochs", "400", "--out", str(scratch)]
    first = fork(words)
    while not (scratch / "a-seed0.checkpoint.safetensors").exists():
        time.sleep(0.01)
    code, _, said = ended(fork([*words, "--lr", "0.01"]))
    os.kill(first[0], signal.SIGTERM)
    end, _, last = ended(first)
    right = rf"odelib: {scratch}/a-seed0.json is in the hands of process {first[0]} on [^\n]+\n"
    wrong = [] if code == REFUSED and re.fullmatch(right, said) else [f"exit {code}: {said}"]
    return {"tried": 1, "wrong": wrong + ([] if end == 143 and last.count("\n") == 1 else [f"exit {end}: {last}"])}


# Of the record: scenario, count, and what happens in it.
RECORDED = (
    (kills, 2, "killed (SIGKILL) at an event of the file system: every second one of a run"),
    (full_disk, 3, "a disk that is full from an event of the file system on: every third one of a run"),
    (file_sizes, 20, "files that may not grow beyond a size: twenty sizes, those that end a run"),
    (at_random, 40, "killed, or stopped by INT, TERM or HUP, at a random moment"),
)


def record(path):
    """Let all of `RECORDED` happen; keep how often what came of it was right."""
    global scratch
    rows = []
    for scenario, count, what in RECORDED:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder).resolve()
            found = scenario(count)
        print(what, found, flush=True)
        rows.append(Fault(what, found["tried"], found["tried"] - len(found["wrong"])))
    Faults(Environment.here(torch.device("cpu")), tuple(rows)).save(path)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        sys.exit(record(sys.argv[2]))
    scratch = Path(sys.argv[2]).resolve()
    if sys.argv[1] == "shared_study":
        train(scratch / "whole")
    print(json.dumps(globals()[sys.argv[1]](int(sys.argv[3]))))

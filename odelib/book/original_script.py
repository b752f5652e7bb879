"""What torchdiffeq's odenet_mnist.py prints: a run of the unedited file, kept as text, and what its lines say.

`python -m odelib.book.original_script SCRIPT` makes the file anew; an hour or so on a CPU. The script downloads MNIST
by itself; here it finds the images where it would have put them, so that no network is needed.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from odelib.data import load_dataset
from odelib.records import RESULTS, Environment, write_atomically

ARGUMENTS = ("--nepochs", "2", "--adjoint", "True", "--save", "run-adjoint")  # those of page setup
LOG = RESULTS / "original" / "odenet_mnist.txt"


@dataclass(frozen=True)
class Line:
    """A line of the script's log, one an epoch."""

    epoch: int
    seconds: float  # of a step, the running mean
    nfe_forward: float  # running means
    nfe_backward: float
    train_accuracy: float
    test_accuracy: float


def write_idx(path: Path, numbers: Tensor) -> None:
    """Write bytes in the format of MNIST's own files (LeCun and Cortes): type, number of axes, sizes, data."""
    sizes = b"".join(size.to_bytes(4, "big") for size in numbers.shape)
    path.write_bytes(bytes([0, 0, 8, numbers.ndim]) + sizes + numbers.to(torch.uint8).numpy().tobytes())


def run_script(script: Path, folder: Path, data_root: Path | None = None) -> str:
    """Run the script in `folder` with `ARGUMENTS`; all that it prints after its own source."""
    raw = folder / ".data" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    data = load_dataset("mnist", data_root)
    for part, images in (("train", data.train), ("t10k", data.test)):
        write_idx(raw / f"{part}-images-idx3-ubyte", images.images[:, 0])
        write_idx(raw / f"{part}-labels-idx1-ubyte", images.labels)
    command = [sys.executable, str(script.resolve()), *ARGUMENTS]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
    return (done.stdout + done.stderr).partition(script.read_text(encoding="utf-8").rstrip()[-40:])[2].strip()


def read_log(path: Path = LOG) -> tuple[str, list[Line]]:
    """The head of the stored file, which says where and how it was made, and the lines of the log."""
    head, _, log = path.read_text(encoding="utf-8").partition("\n\n")
    number = r"\s*(\d+\.?\d*)"
    pattern = (
        rf"Epoch{number} \| Time{number} \({number}\) \| NFE-F{number} \| NFE-B{number} \| "
        rf"Train Acc{number} \| Test Acc{number}"
    )
    found = [[float(value) for value in match.groups()] for match in re.finditer(pattern, log)]
    return head, [Line(int(epoch), mean, *rest) for epoch, _, mean, *rest in found]


def numbers() -> dict[str, str]:
    """What page setup quotes of the log, by the names under which it asks for them."""
    head, lines = read_log()
    found = {"log-environment": head.splitlines()[1]}
    for line in lines:
        found |= {
            f"log-time-{line.epoch}": f"{line.seconds:.2f}",
            f"log-forward-{line.epoch}": f"{line.nfe_forward:.1f}",
            f"log-backward-{line.epoch}": f"{line.nfe_backward:.1f}",
            f"log-train-{line.epoch}": f"{line.train_accuracy:.2%}",
            f"log-test-{line.epoch}": f"{line.test_accuracy:.2%}",
        }
    return found


def main(script: Path) -> None:
    """Run the script and keep what it prints, below a head of two lines, at `LOG`."""
    environment = Environment.here(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        log = run_script(script, Path(folder))
    digest = sha256(script.read_bytes()).hexdigest()
    head = f"python {script.name} {' '.join(ARGUMENTS)}    (sha256 {digest[:16]})\n{environment}"
    write_atomically(LOG, lambda part: part.write_text(f"{head}\n\n{log}\n", encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

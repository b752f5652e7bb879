"""The command line: every command with good and with bad input."""

import io
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points, requires
from pathlib import Path

import pytest
import torch
from bad_files import pictures

import odelib
from odelib import Config, Run, cli, commands
from odelib.cli import main
from odelib.records import RESULTS

SMALL = [
    "--stem",
    "one-shot",
    "--width",
    "8",
    "--method",
    "rk4",
    "--batch-size",
    "16",
    "--lr",
    "0.05",
    "--dataset",
    "mnist",
    "--device",
    "cpu",
]


def train(folder, *options):
    return main(["train", *SMALL, "--epochs", "2", "--out", str(folder), "--name", "a", *options])


def test_train_show_and_evaluate(mnist_root, tmp_path, capsys):
    assert train(tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("epoch ") == 2 and "a-seed0.json" in said
    record = Run.load(tmp_path / "a-seed0.json")
    assert record.finished and record.config.width == 8
    assert main(["show", str(tmp_path / "a-seed0.json")]) == 0
    assert f"odelib train {record.config.options()}" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert re.search(r"mnist: accuracy .*% of 30 test images, .* NFE 1.0", capsys.readouterr().out)


@pytest.mark.parametrize(
    "capability, options, said",
    [
        ("AVX2", ["--stem-bf16"], "--no-stem-bf16 does without"),
        ("AVX2", ["--bf16", "--stem-bf16"], "--no-bf16 --no-stem-bf16 does without"),
        ("AVX2", [], None),
        ("AVX512", ["--stem-bf16"], None),
    ],
)
def test_a_processor_without_bfloat16_is_told_of_where_it_is_asked_for_it(
    mnist_root, tmp_path, capsys, monkeypatch, capability, options, said
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert main(["train", *SMALL, "--epochs", "1", "--out", str(tmp_path), *options]) == 0
    err = capsys.readouterr().err
    assert err.endswith(f"several times slower here than 32 bit; {said}\n") if said else not err


def test_a_finished_run_is_refused(mnist_root, tmp_path, capsys):
    assert train(tmp_path) == 0
    assert train(tmp_path) == 2
    assert "finished; move it away to train again, or --extend it" in capsys.readouterr().err


def test_a_run_is_extended_by_its_name_and_show_tells(mnist_root, tmp_path, capsys):
    assert train(tmp_path, "--network", "none") == 0
    assert train(tmp_path, "--network", "none", "--epochs", "3") == 2
    assert "another config: epochs 2 (now 3); choose another name, or go on so with --extend" in capsys.readouterr().err
    assert train(tmp_path, "--network", "none", "--epochs", "3", "--lr", "0.01", "--extend") == 0
    assert re.findall(r"^epoch +(\d)", capsys.readouterr().out, re.M) == ["3"]
    record = Run.load(tmp_path / "a-seed0.json")
    later = replace(record.environment, threads=3, date="2040-01-01 00:00")
    replace(record, later=(later,)).save(tmp_path / "b.json")
    assert main(["show", str(tmp_path / "b.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        str(record.environment),
        f"went on: {later}",
        "extended in epoch 3, after step 0: it was to have 2 epochs, lr 0.05",
    ]
    assert main(["train", *SMALL, "--extend", "--out", str(tmp_path)]) == 2
    assert "--extend wants the --name of the run" in capsys.readouterr().err


def test_the_help_of_a_preset_is_not_a_remark_to_a_type_checker(capsys):
    said = main_help("train", capsys)
    assert "start from a named recipe; other options change it" in said and "type: ignore" not in said


def test_the_help_says_what_an_extension_does_to_a_schedule(capsys):
    assert main_help("train", capsys).count("cosine, one-cycle and linear jump") == 1


def main_help(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return " ".join(re.sub(r"[│╭╮╰╯─]", "", capsys.readouterr().out).split())


@pytest.mark.parametrize("name", ["", "../up", "/tmp/up", "a\nb"])
def test_a_name_stays_inside_of_out(mnist_root, tmp_path, capsys, name):
    """Also that of a benchmark."""
    for words in (["train", *SMALL, "--name", name], ["benchmark", name, "--device", "cpu"]):
        assert main([*words, "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "a name must be a file name inside of" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["train", *SMALL, "--name", "a"], ["benchmark", "a", "--device", "cpu"]])
def test_a_folder_that_cannot_be_made_is_told_before_any_work(mnist_root, tmp_path, capsys, words, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("odelib.training.train_step", None)
    assert main([*words, "--out", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"odelib: .*/file/a(-seed0)?\.json cannot be written \(.*\)\n", said)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize(
    "words, said", [(["train"], "the same command goes on"), (["data", "mnist"], "nothing was written")]
)
def test_a_signal_ends_a_command_with_one_line_and_its_code(number, code, words, said, capsys, monkeypatch):
    """Outside of training too."""
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(getattr(commands, words[0].capitalize()), "__call__", lambda self: os.kill(os.getpid(), number))
    assert main(words) == code
    assert capsys.readouterr().err == f"odelib: interrupted; {said}\n"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(dataset="mnist", network="none", epochs=1, milestones=(1, 2), normalize=True, augment="crop"),
        dict(dataset="my pictures", milestones=(), lr=1, train_images=10, order=2, seed=3),
        dict(dataset="it's", library="odelib", method="bosh3", rtol=1e-5, warm_start=True, bf16=True),
        dict(method="rk4", step_size=0.1, gradient="adjoint", scales=2, weight_decay=1e-4 / 3),
    ],
)
def test_the_options_of_a_config_make_it_again(options, monkeypatch):
    """As a shell would split them, and as the command line reads them."""
    config, made = Config(**options), []
    monkeypatch.setattr(commands.Train, "__call__", lambda self: made.append(self.config))
    assert main(["train", *shlex.split(config.options())]) == 0
    assert made == [config]


def test_show_prints_the_command_and_the_commit(capsys):
    path = RESULTS / "mnist-gradients" / "none-seed0.json"
    record = Run.load(path)
    assert main(["show", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "odelib train --dataset mnist --network none" == f"odelib train {record.config.options()}"
    assert said[1] == str(record.environment) and "(before commits were kept)" in said[1]
    assert said[2] == "132,874 parameters, 5 of 5 epochs" and said[3:] == [str(m) for m in record.metrics]


def test_show_names_the_commit(tmp_path, capsys):
    record = Run.load(RESULTS / "mnist-gradients" / "none-seed0.json")
    environment = replace(record.environment, commit="0123456789ab+", settings=())
    replace(record, environment=environment).save(tmp_path / "a.json")
    assert main(["show", str(tmp_path / "a.json")]) == 0
    assert "(commit 0123456789ab and changes)" in capsys.readouterr().out


def test_weights_of_several_blocks_are_evaluated_with_another_solver(mnist_root, tmp_path, capsys):
    assert train(tmp_path, "--scales", "2", "--extra-channels", "4", "--kinetic", "0.1") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert "NFE 2.0" in capsys.readouterr().out
    words = ["--method", "bosh3", "--library", "odelib", "--device", "cpu"]
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), *words]) == 0
    nfe = float(re.search(r"NFE ([\d.]+)", capsys.readouterr().out)[1])
    assert nfe >= 2 * (3 + 2)  # two blocks, each at least one step and the two evaluations before it


def test_weights_trained_with_the_seminorm_are_evaluated_with_a_fixed_grid(mnist_root, tmp_path, capsys):
    assert train(tmp_path, "--method", "bosh3", "--gradient", "seminorm") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert "NFE 1.0" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--method", "euler"], ["--method", "bosh3", "--library", "odelib"]])
def test_weights_trained_without_steps_past_the_end_are_evaluated_by_any_solver(mnist_root, tmp_path, words):
    assert train(tmp_path, "--method", "bosh3", "--stop-at-t1") == 0
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), *words, "--device", "cpu"]) == 0


def test_weights_trained_on_a_grid_are_evaluated_with_an_adaptive_method(mnist_root, tmp_path, capsys):
    assert train(tmp_path, "--method", "rk4", "--step-size", "0.25") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "dopri5", "--device", "cpu"]) == 0
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert "NFE 4.0" in capsys.readouterr().out  # on the grid of training


def test_a_preset_can_be_changed(mnist_root, tmp_path):
    words = [
        "--preset",
        "odenet-mnist",
        "--epochs",
        "1",
        "--network",
        "none",
        "--batch-size",
        "16",
        "--device",
        "cpu",
        "--name",
        "c",
    ]
    assert main(["train", *words, "--out", str(tmp_path)]) == 0
    config = Run.load(tmp_path / "c-seed0.json").config
    assert (config.schedule, config.augment, config.epochs, config.network) == ("step", "crop", 1, "none")


def test_data_counts_every_class(capsys):
    assert main(["data", "mnist-sample"]) == 0
    said = capsys.readouterr().out
    assert "1 x 28 x 28" in said and re.search(r"all +2,000 +1,000", said)


def test_a_name_that_the_terminal_cannot_show_is_shown_by_its_escapes(tmp_path, monkeypatch):
    pictures(tmp_path / "meals", classes=("café", "tea"))
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["data", str(tmp_path / "meals"), "--image-size", "8"]) == 0
    assert b"\ncaf\\xe9 " in terminal.buffer.getvalue()


# Bad input is in test_bad_input


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_line_is_the_same_whatever_the_terminal_can_draw(encoding):
    """tyro draws its boxes in two ways."""
    words = [sys.executable, "-m", "odelib", "train", "--epochs", "many"]
    done = subprocess.run(words, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "odelib: --epochs: invalid literal for int() with base 10: 'many' (see odelib train --help)\n"


# How it ends


def test_a_reader_that_has_seen_enough_is_no_error():
    """`odelib show ... | head -1`: no word, exit code 0."""
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "odelib", "show", str(RESULTS / "mnist-gradients" / "none-seed0.json")]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


class Pipe(io.StringIO):
    """Standard output whose reader has gone when these words come."""

    def __init__(self, words):
        super().__init__()
        self.words, self.number = words, os.open(os.devnull, os.O_WRONLY)

    def flush(self):
        if self.words in self.getvalue():
            raise BrokenPipeError

    def fileno(self):
        return self.number


def test_help_that_nobody_reads_to_its_end_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Pipe("usage: odelib show"))
    assert main(["show", "--help"]) == 0


def test_training_that_nobody_reads_stops_says_so_and_goes_on(mnist_root, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", Pipe("epoch   1"))
        assert train(tmp_path, "--network", "none") == 130
    assert capsys.readouterr().err == ("odelib: stopped, since nobody reads what it prints; the same command goes on\n")
    assert len(Run.load(tmp_path / "a-seed0.json").metrics) == 1
    monkeypatch.setattr(sys, "stdout", Pipe("parameters"))  # the last line: all is done
    assert train(tmp_path, "--network", "none") == 0
    assert Run.load(tmp_path / "a-seed0.json").finished and (tmp_path / "a-seed0.safetensors").exists()


def test_both_ways_to_call_it_tell_the_version(capsys):
    (script,) = entry_points(group="console_scripts", name="odelib")
    assert script.load() is main
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"odelib {odelib.__version__}\n"
    done = subprocess.run([sys.executable, "-m", "odelib", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"odelib {odelib.__version__}\n", "")


GOES_ON = "odelib: interrupted; the same command goes on\n"
NOTHING = "odelib: interrupted; nothing was written\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (["train"], GOES_ON),
        (["study", "mnist-gradients"], GOES_ON),
        (["study", "mnist-gradients", "--status"], NOTHING),
        (["study", "mnist-gradients", "--measure", "timing"], NOTHING),
        (["study", "mnist-gradients", "--measure", "timing", "--confirm"], NOTHING),
        (["benchmark", "a"], NOTHING),
        (["data", "mnist"], NOTHING),
        (["evaluate", "a.safetensors"], NOTHING),
        (["show", "a.json"], NOTHING),
    ],
    ids=" ".join,
)
def test_an_interrupted_command_says_what_is_left_of_it(words, said, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(getattr(commands, words[0].capitalize()), "__call__", interrupt)
    assert main(words) == 130
    assert capsys.readouterr().err == said


def test_an_interruption_while_words_are_read_is_told_too(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_parse", interrupt)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == NOTHING


# What is imported, and what is not there

WITHOUT_TORCH = """
import sys
from odelib.cli import main
code = None
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
late = [name for name in ("torch", "torchdiffeq", "torchvision", "numpy") if name in sys.modules]
assert not late, late
sys.exit(code)
"""


@pytest.mark.parametrize(
    "words, code",
    [("--help", 0), ("--version", 0), ("study --help", 0), ("benchmark --help", 0), ("", 2), ("trian", 2)]
    + [(f"{command} --colour red", 2) for command in ("evaluate a", "data a", "show a", "study a", "benchmark a")],
)
def test_help_and_wrong_options_do_not_wait_for_torch(words, code):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words.split()], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == (code == 2) and bool(done.stdout) == (code == 0)


MEET = """
import os, signal, sys
class Meet:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Meet())
from odelib.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("module", ["odelib.commands", "tyro", "torch", "odelib.config", "torchdiffeq"])
def test_a_signal_while_modules_are_imported_is_one_line(module):
    words = [sys.executable, "-c", MEET, module, "train", "--help"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, NOTHING)


@pytest.mark.parametrize(
    "absent, said", [(name, f"{name} is") for name in cli.OF_TRAIN] + [("numpy tyro", "numpy, tyro are")]
)
def test_packages_that_are_not_installed_are_named_with_the_extra_that_brings_them(absent, said, capsys, monkeypatch):
    for name in absent.split():
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["--help"]) == 2
    assert capsys.readouterr().err == f'odelib: {said} not installed; pip install "odelib[train]"\n'


def test_what_is_named_so_is_what_the_extra_brings():
    required = (re.match(r"[\w-]+(?=.*extra == .train)", line) for line in requires("odelib"))
    assert {name[0] for name in required if name} == {"pillow" if name == "PIL" else name for name in cli.OF_TRAIN}


# What nobody foresaw, and what there is no room for


def test_a_fault_of_odelib_is_one_line_and_keeps_its_traceback(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(commands.Data, "__call__", lambda self: 1 / 0)
    assert main(["data", "mnist"]) == 70
    (file,) = tmp_path.iterdir()
    assert capsys.readouterr().err == f"odelib: internal error, please report; traceback in {file}\n"
    assert file.read_text().endswith("ZeroDivisionError: division by zero\n")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert main(["data", "mnist"]) == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and said.endswith("please report; traceback in the lines above\n")


def too_large(*_):
    torch.empty(2**50)


def no_memory(*_):
    raise MemoryError


def no_memory_on_the_device(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of ...")


@pytest.mark.parametrize(
    "act, wanted",
    [
        (too_large, " for another 4503599627370496 bytes"),
        (no_memory, ""),
        (no_memory_on_the_device, " for another 20.00 MiB"),
    ],
)
def test_memory_that_is_not_there_is_one_line_with_the_path(mnist_root, tmp_path, capsys, monkeypatch, act, wanted):
    """In training, after which the same command goes on, and in testing."""
    remedy = "smaller batches, images or networks take less"
    with monkeypatch.context() as patched:
        patched.setattr("odelib.training.train_step", act)
        assert train(tmp_path, "--network", "none") == 2
    said = capsys.readouterr()
    assert said.err == f"odelib: {tmp_path}/a-seed0.json: there is not enough memory{wanted}; {remedy}\n"
    assert train(tmp_path, "--network", "none") == 0
    weights = tmp_path / "a-seed0.safetensors"
    monkeypatch.setattr("odelib.training.evaluate", act)
    assert main(["evaluate", str(weights), "--device", "cpu"]) == 2
    assert capsys.readouterr().err == f"odelib: {weights}: there is not enough memory{wanted}; {remedy}\n"
    monkeypatch.setattr(commands.Show, "__call__", act)
    assert main(["show", "a.json"]) == 2
    assert capsys.readouterr().err == f"odelib: odelib show: there is not enough memory{wanted}; {remedy}\n"


@pytest.mark.parametrize("words", [["data", "mnist-sample"], ["--version"], ["--help"]], ids=" ".join)
def test_output_that_finds_no_room_is_one_line(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "odelib", *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "odelib: standard output cannot be written (No space left on device)\n",
    )


# Outside of a clone


@pytest.mark.parametrize(
    "words", [["study", "speed"], ["study", "speed", "--status"], ["benchmark", "a"]], ids=" ".join
)
def test_a_study_asks_where_its_records_go_where_there_is_no_clone(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ODELIB_RESULTS", raising=False)
    monkeypatch.setattr("odelib.records.RESULTS", Path("results"))
    assert main([*words, "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert said.err == (
        "odelib: there is no clone of the book here, which has a folder for records; add --out FOLDER\n"
    )
    assert list(tmp_path.iterdir()) == []
    if "--status" in words:
        assert main([*words, "--out", "mine"]) == 0
        assert "mine/speed/" in capsys.readouterr().out

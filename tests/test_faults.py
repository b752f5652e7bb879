"""Faults that end a process, or leave it no room: little is lost, nothing is left behind, nothing is silent."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from odelib.locks import Lock, Locked

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")


def meet(scenario, folder, count):
    """Let faults happen to runs in another process (tests/faults.py). How many did, and what was wrong after them."""
    words = [sys.executable, Path(__file__).parent / "faults.py", scenario, folder, str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["tried"], found["wrong"]


def counts(few, many):
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.weekly)])


@counts(7, 1)
def test_a_run_that_is_killed_at_any_event_of_the_file_system_is_finished_by_the_same_command(tmp_path, count):
    """At every `count`-th: open, rename, mkdir, remove. Metrics and weights are those of an uninterrupted run."""
    tried, wrong = meet("kills", tmp_path, count)
    assert wrong == [] and tried * count > 60


@counts(9, 1)
def test_a_disk_that_is_full_from_any_event_on_is_one_line_and_nothing_is_lost(tmp_path, count):
    tried, wrong = meet("full_disk", tmp_path, count)
    assert wrong == [] and tried * count > 50


@counts(4, 40)
def test_files_that_may_not_grow_are_never_half_written(tmp_path, count):
    tried, wrong = meet("file_sizes", tmp_path, count)
    assert wrong == [] and tried >= count // 3


@counts(6, 200)
def test_kills_and_signals_at_random_moments_change_nothing(tmp_path, count):
    """Exit codes 130, 143, 129, and one line."""
    tried, wrong = meet("at_random", tmp_path, count)
    assert wrong == [] and tried == count


@counts(2, 4)
def test_processes_share_a_study_and_train_no_epoch_twice(tmp_path, count):
    assert meet("shared_study", tmp_path, count) == (count, [])


def test_two_configs_under_one_name_do_not_meet(tmp_path):
    assert meet("shared_name", tmp_path, 1) == (1, [])


# Locks

HOLD = """
import sys, time
from pathlib import Path
from odelib.locks import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a lock."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "a.json")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_names_who_has_it_and_is_taken_over_when_that_process_dies(tmp_path, holder):
    path = tmp_path / "a.json"
    with pytest.raises(Locked, match=f"a.json is in the hands of process {holder.pid} on .+"), Lock(path):
        pass
    with Lock(tmp_path / "b.json"):  # another run
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.lock", "a.owner"]  # it had no time to tidy up
    with Lock(path):
        assert (tmp_path / "a.owner").read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(Locked, match=f"process {os.getpid()}"), Lock(path):  # not even twice by one process
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_owner_cannot_be_told_is_still_a_lock(tmp_path, holder):
    for content in (b"", b"\xff", None):
        (tmp_path / "a.owner").unlink() if content is None else (tmp_path / "a.owner").write_bytes(content)
        with pytest.raises(Locked, match="a.json is in the hands of another process"), Lock(tmp_path / "a.json"):
            pass


def test_files_that_were_taken_away_once_are_left_to_the_next(tmp_path):
    with Lock(tmp_path / "a.json") as lock:
        lock.remove()
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "a.lock").touch()  # somebody else's
    assert (tmp_path / "a.lock").exists()

"""Results: every stored file is a record, and those that other code made are known, each with a reason."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from odelib import Run
from odelib.measurements import MEASUREMENTS
from odelib.measurements.timing import Timing
from odelib.records import RESULTS, Confirmation
from odelib.sources import digest
from odelib.studies.results import kind_of, known_stale, read_results, stale

STORED = RESULTS / "mnist-gradients"

# The results of this repository


def test_every_stored_record_is_read():
    records, damaged = read_results()
    assert not damaged
    assert set(records) == {path.relative_to(RESULTS) for path in RESULTS.rglob("*/*.json")}
    assert len(records) > 150 and {type(record) for record in records.values()} == {
        Run,
        *(how.record for how in MEASUREMENTS.values()),
    }


def test_what_is_stale_is_known_with_a_reason_and_nothing_else_is():
    """A measurement whose code has changed is made again, or `--confirm` shows that the change was none."""
    known = known_stale()
    assert set(stale()) == set(known)
    assert all(isinstance(reason, str) and reason.strip() for reason in known.values())


def test_no_stored_record_names_a_folder_of_a_machine():
    """Data sets are named, settings have no paths."""
    for name, record in read_results()[0].items():
        words = [*(record.environment.settings or ())]
        if isinstance(record, Run):
            words += [value for value in asdict(record.config).values() if isinstance(value, str)]
        assert not any("/" in word or "\\" in word for word in words), name


# What can be read


def test_what_cannot_be_read_is_named_and_the_rest_is_still_listed(tmp_path):
    study = tmp_path / "study"
    study.mkdir()
    for name in ("none-seed0.json", "timing.json"):
        shutil.copy(STORED / name, study)
    text = (STORED / "none-seed0.json").read_text()
    (study / "cut-seed0.json").write_text(text[: len(text) // 2])
    (study / "extra-seed0.json").write_text(json.dumps({**json.loads(text), "surprise": 1}))
    (study / "memory.json").write_text(text)
    (study / "notes.json").write_text("{}")
    records, damaged = read_results(tmp_path)
    assert [path.name for path in records] == ["none-seed0.json", "timing.json"]
    assert [path.name for path in damaged] == ["cut-seed0.json", "extra-seed0.json", "memory.json", "notes.json"]
    for reason in damaged.values():
        assert reason.startswith("is n") and str(tmp_path) not in reason
    assert "surprise" in damaged[Path("study/extra-seed0.json")]


@pytest.mark.parametrize(
    "path, name",
    [
        ("mnist-gradients/timing.json", "timing"),
        ("cifar10-full/cross-solver.json", "cross-solver"),
        ("benchmark/my-machine.json", "benchmark"),
        ("benchmark/timing.json", "benchmark"),
        ("mnist-gradients/none-seed0.json", None),
        ("mnist-gradients/notes.json", None),
    ],
)
def test_a_measurement_is_known_by_its_name_or_by_its_folder(path, name):
    assert kind_of(Path("results") / path) == (MEASUREMENTS[name] if name else None)


# What is stale


@pytest.fixture
def timing(tmp_path):
    """Write the stored timing with another environment; ask what is stale."""
    record = Timing.load(STORED / "timing.json")

    def write(**environment):
        changed = replace(record, environment=replace(record.environment, **environment))
        changed.save(tmp_path / "mnist-gradients" / "timing.json")
        return stale(tmp_path)

    return write


def confirmation(sources):
    return Confirmation("2030-01-01 00:00", "a processor", None, sources)


def test_a_measurement_is_stale_when_its_code_is_no_longer_the_one_that_made_it(timing):
    today, path = digest(MEASUREMENTS["timing"].module), Path("mnist-gradients/timing.json")
    assert timing(sources=today) == []
    assert timing(sources="other") == [path]
    assert timing(sources=None) == [path]
    assert timing(sources=digest(MEASUREMENTS["memory"].module)) == [path]


def test_a_measurement_that_later_code_confirmed_is_stale_when_that_changes_too(timing):
    today, path = digest(MEASUREMENTS["timing"].module), Path("mnist-gradients/timing.json")
    assert timing(sources="other", confirmed=(confirmation(today),)) == []
    assert timing(sources=None, confirmed=(confirmation("older"), confirmation(today))) == []
    assert timing(sources="other", confirmed=(confirmation("older"),)) == [path]


def test_a_run_is_never_stale(tmp_path):
    """It shows the commit that made it."""
    (tmp_path / "mnist-gradients").mkdir()
    shutil.copy(STORED / "none-seed0.json", tmp_path / "mnist-gradients")
    assert stale(tmp_path) == []


def test_reasons_are_read_where_there_are_any(tmp_path):
    assert known_stale(tmp_path) == {}
    (tmp_path / "stale.json").write_text('{"mnist-gradients/timing.json": "no quiet machine"}')
    assert known_stale(tmp_path) == {Path("mnist-gradients/timing.json"): "no quiet machine"}
    assert read_results(tmp_path) == ({}, {})

"""Confirming: a small part of a measurement is made again, and its record says whether the same came out."""

import json
import re
from dataclasses import dataclass, is_dataclass, replace

import pytest
import torch

from odelib import RecordError, build
from odelib.cli import main
from odelib.measurements import MEASUREMENTS
from odelib.measurements.loss_scale import SCALES
from odelib.measurements.measurement import disagreements
from odelib.measurements.memory import Memory
from odelib.records import Environment, Record, save_weights
from odelib.sources import digest
from odelib.studies import STUDIES, Case, Study
from odelib.studies.results import kind_of, read_results, stale

CPU = torch.device("cpu")

# What disagrees


@dataclass(frozen=True)
class Row:
    KEY = ("case", "scale")
    DERIVED = ("share",)

    case: str
    scale: float | None
    nfe: int = 4
    accuracy: float = 0.25
    theta_error: float = 0.02
    counts: tuple[int, ...] = (1, 2)
    seconds: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    share: float = 0.5


@dataclass(frozen=True)
class Table(Record):
    environment: Environment
    images: int
    rows: tuple[Row, ...]
    loss: float = 0.5
    classes: tuple[str, ...] = ("cat", "dog")


@pytest.fixture(scope="module")
def here() -> Environment:
    return Environment.here(CPU)


@pytest.fixture
def old(here) -> Table:
    return Table(here, 32, (Row("a", None), Row("a", 10.0), Row("b", None)))


def test_a_part_that_came_out_again_has_no_disagreements(old, here):
    """Rows are found by their key, wherever they stand; where and when is not compared."""
    later = replace(here, date="2040-01-01 00:00", hardware="another", sources="other")
    assert disagreements(old, old) == []
    assert disagreements(old, Table(later, 32, (Row("b", None), Row("a", 10.0)))) == []


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(nfe=5), "rows a 10.0 nfe 5 is 4 in the record"),
        (dict(nfe=4.0), None),
        (dict(accuracy=0.25 * 1.0009), None),
        (dict(accuracy=0.25 * 1.002), "rows a 10.0 accuracy 0.2505 is 0.25 in the record"),
        (dict(accuracy=float("nan")), "rows a 10.0 accuracy nan is 0.25 in the record"),
        (dict(theta_error=0.0209), None),  # a thousandth of the gradient
        (dict(theta_error=0.0211), "rows a 10.0 theta_error 0.0211 is 0.02 in the record"),
        (dict(counts=(1, 3)), "rows a 10.0 counts (1, 3) is (1, 2) in the record"),
        (dict(counts=(1,)), "rows a 10.0 counts (1,) is (1, 2) in the record"),
        (dict(seconds=(2.1, 9.9, 3.9)), None),  # the median lies between the old quartiles, 2 and 4
        (dict(seconds=(2.0,)), None),
        (dict(seconds=(4.1, 1.0, 9.0)), "rows a 10.0 seconds 4.1 is not within 2 and 4"),
        (dict(seconds=(1.9, 1.0, 9.0)), "rows a 10.0 seconds 1.9 is not within 2 and 4"),
        (dict(share=99.0), None),  # follows from the seconds
        (dict(scale=20.0), "rows a 20.0 is not in the record"),
        (dict(case="c"), "rows c 10.0 is not in the record"),
    ],
)
def test_every_kind_of_field_is_compared(old, here, change, said):
    new = Table(here, 32, (replace(Row("a", 10.0), **change),))
    assert disagreements(old, new) == ([said] if said else [])


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(images=16), "images 16 is 32 in the record"),
        (dict(loss=0.6), "loss 0.6 is 0.5 in the record"),
        (dict(classes=("dog", "cat")), "classes ('dog', 'cat') is ('cat', 'dog') in the record"),
        (dict(rows=()), "rows () is "),
    ],
)
def test_fields_of_the_whole_are_compared_too(old, change, said):
    (found,) = disagreements(old, replace(old, **change))
    assert found.startswith(said)


def test_all_that_differs_is_named(old):
    found = disagreements(old, replace(old, images=16, rows=(Row("a", None, nfe=5, accuracy=1.0), Row("c", None))))
    assert [sentence.split(" is ")[0] for sentence in found] == [
        "images 16", "rows a None nfe 5", "rows a None accuracy 1.0", "rows c None",
    ]  # fmt: skip


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_rows_of_a_stored_record_are_told_apart_by_their_key(name):
    """Otherwise one would be compared with another."""
    records = [record for path, record in read_results()[0].items() if kind_of(path) is MEASUREMENTS[name]]
    assert records
    for record in records:
        assert disagreements(record, record) == []
        tables = [rows for rows in vars(record).values() if isinstance(rows, tuple) and rows and is_dataclass(rows[0])]
        assert tables
        for rows in tables:
            keys = [tuple(getattr(row, part) for part in row.KEY) for row in rows]
            assert len(set(keys)) == len(keys)


# The command


@pytest.fixture
def study(mnist_root, tmp_path, monkeypatch, quick, tiny) -> Study:
    """A small study, with a trained network, in the place of mnist-gradients."""
    quick = replace(quick, width=4, method="dopri5", rtol=1e-2, atol=1e-2, batch_size=128)
    cases = {name: Case(replace(quick, gradient=name)) for name in ("direct", "adjoint")}
    made = Study("mnist-gradients", "Does it come out again?", cases, trained="direct-seed0")
    monkeypatch.setitem(STUDIES, "mnist-gradients", made)
    monkeypatch.setattr("odelib.studies.study.RESULTS", tmp_path)
    monkeypatch.setattr("odelib.measurements.gradient_error.REFERENCE_TOLERANCE", 1e-5)  # quick
    save_weights(tmp_path / "mnist-gradients" / "direct-seed0.safetensors", build(quick, tiny), quick)
    return made


def command(folder, name, *words):
    return main(["study", "mnist-gradients", "--measure", name, "--out", str(folder), "--device", "cpu", *words])


def figures(text) -> str:
    """What a record says besides its environment, byte for byte."""
    return re.sub(r'"environment": \{.*?^ \}', "", text, flags=re.DOTALL | re.MULTILINE)


def made_by_other_code(path):
    """As if the record were older than digests; what it says besides stays."""
    values = json.loads(path.read_text())
    for name in ("commit", "settings", "sources", "confirmed"):
        del values["environment"][name]
    path.write_text(json.dumps(values, indent=1) + "\n")


def test_a_note_that_cannot_be_written_is_told_before_anything_is_measured(study, tmp_path, capsys, monkeypatch):
    assert command(tmp_path, "memory") == 0
    monkeypatch.setattr("odelib.records.tempfile.TemporaryDirectory", no_room)
    monkeypatch.setitem(MEASUREMENTS, "memory", replace(MEASUREMENTS["memory"], measure=too_early))
    capsys.readouterr()
    assert command(tmp_path, "memory", "--confirm") == 2
    path = tmp_path / "mnist-gradients" / "memory.json"
    assert capsys.readouterr().err == f"odelib: {path} cannot be written (no room)\n"


def too_early(*_, **__):
    pytest.fail("it was measured")


def no_room(**_):
    raise OSError(28, "no room")


def test_a_measurement_is_confirmed_and_its_figures_stay(study, tmp_path, capsys):
    assert command(tmp_path, "memory") == 0
    path = tmp_path / "mnist-gradients" / "memory.json"
    made_by_other_code(path)
    before = path.read_text()
    assert [name.stem for name in stale(tmp_path)] == ["memory"]
    main(["study", "mnist-gradients", "--status", "--out", str(tmp_path), "--device", "cpu"])
    assert "made by other code: memory; measure again, or --measure NAME --confirm" in capsys.readouterr().out

    assert command(tmp_path, "memory", "--confirm") == 0
    assert capsys.readouterr().out == f"confirmed: record {path}\n"
    assert figures(path.read_text()) == figures(before) != before
    environment = Memory.load(path).environment
    (note,) = environment.confirmed
    assert note.sources == digest("odelib.measurements.memory") and note.hardware and note.date
    assert environment.sources is None and environment.commit is None and environment.settings is None
    assert stale(tmp_path) == []
    main(["study", "mnist-gradients", "--status", "--out", str(tmp_path), "--device", "cpu"])
    assert "made by other code" not in capsys.readouterr().out


def test_a_changed_figure_is_named_and_the_record_stays(study, tmp_path, capsys):
    assert command(tmp_path, "memory") == 0
    path = tmp_path / "mnist-gradients" / "memory.json"
    made_by_other_code(path)
    record = Memory.load(path)
    replace(record, rows=(replace(record.rows[0], kept=record.rows[0].kept + 1), *record.rows[1:])).save(path)
    before = path.read_bytes()
    capsys.readouterr()
    assert command(tmp_path, "memory", "--confirm") == 2
    was, row = record.rows[0].kept + 1, "rows dopri5 direct 0.1 None kept"
    assert capsys.readouterr().err == (
        f"odelib: {path} is not confirmed: {row} {was - 1} is {was} in the record; move it away to measure again\n"
    )
    assert path.read_bytes() == before and [name.stem for name in stale(tmp_path)] == ["memory"]


def test_of_several_changed_figures_the_first_is_named_and_the_others_counted(study, tmp_path, capsys):
    assert command(tmp_path, "memory") == 0
    path = tmp_path / "mnist-gradients" / "memory.json"
    record = Memory.load(path)
    replace(record, state_bytes=1, evaluation_bytes=2).save(path)
    capsys.readouterr()
    assert command(tmp_path, "memory", "--confirm") == 2
    assert "is 1 in the record (and 1 more); move it away to measure again\n" in capsys.readouterr().err


def test_times_are_confirmed_when_their_median_lies_where_half_of_the_old_ones_do(study, tmp_path, capsys, monkeypatch):
    """Of a clock that gives what it is told."""
    first = 1.0

    def interleave(actions, rounds):
        for action in actions.values():
            action()  # for NFE
        return {name: [first + k / 10 for k in range(rounds)] for name in actions}

    monkeypatch.setattr("odelib.measurements.timing.interleave", interleave)
    assert command(tmp_path, "timing") == 0  # 21 rounds: from 1 to 3, the quartiles are 1.5 and 2.5
    path = tmp_path / "mnist-gradients" / "timing.json"
    before = path.read_bytes()
    capsys.readouterr()
    for first, median in ((0.4, 1.4), (1.6, 2.6)):  # noqa: B007
        assert command(tmp_path, "timing", "--confirm") == 2
        assert f"rows direct seconds {median} is not within 1.5 and 2.5" in capsys.readouterr().err
        assert path.read_bytes() == before
    first = 1.4
    assert command(tmp_path, "timing", "--confirm") == 0
    assert path.read_bytes() != before


def test_a_small_part_of_times_has_as_many_rounds():
    """The median of few would often miss the quartiles of many, though nothing has changed."""
    assert "rounds" not in MEASUREMENTS["timing"].small | MEASUREMENTS["benchmark"].small


def test_more_images_than_there_are_are_refused(study, tmp_path, capsys):
    assert command(tmp_path, "loss-scale", "--images", "100001") == 2
    assert re.search(r"images must be at most the [\d,]+ of the test set, got 100001", capsys.readouterr().err)
    assert not (tmp_path / "mnist-gradients" / "loss-scale.json").exists()


def test_a_record_of_fewer_images_is_confirmed_with_as_many(study, tmp_path):
    assert command(tmp_path, "loss-scale", "--images", "2") == 0
    path = tmp_path / "mnist-gradients" / "loss-scale.json"
    record = MEASUREMENTS["loss-scale"].record.load(path)
    assert record.images == 2
    assert command(tmp_path, "loss-scale", "--confirm") == 0
    confirmed = MEASUREMENTS["loss-scale"].record.load(path)
    assert len(confirmed.environment.confirmed) == 1 and confirmed.images == 2


def test_what_was_not_measured_cannot_be_confirmed(study, tmp_path, capsys):
    assert command(tmp_path, "memory", "--confirm") == 2
    assert "memory.json cannot be read (No such file or directory)" in capsys.readouterr().err
    assert not (tmp_path / "mnist-gradients" / "memory.json").exists()


@pytest.mark.parametrize(
    "name, options, small",
    [
        ("loss-scale", dict(images=2, scales=SCALES[:5]), dict(images=2)),
        ("gradient-error", dict(images=2), dict(images=2)),
        ("memory", dict(batch_size=2), dict(batch_size=2)),
        ("cross-solver", {}, {}),
        ("confusion", {}, {}),
        ("hard-images", {}, {}),
    ],
)
def test_what_is_made_twice_by_one_code_is_confirmed(name, options, small, study, tmp_path):
    """On one machine nothing but times may differ; a record that was made with other options wants them again."""
    how, path = MEASUREMENTS[name], tmp_path / "mnist-gradients" / f"{name}.json"
    subject = study.subject(path.parent, None, CPU)
    how.measure(subject, **options).save(path)
    assert how.confirm(path, subject, **small) == []
    assert len(how.record.load(path).environment.confirmed) == 1


def test_other_options_are_named(study, tmp_path):
    how, subject = MEASUREMENTS["memory"], study.subject(tmp_path, None, CPU)
    how.measure(subject, batch_size=2).save(tmp_path / "memory.json")
    assert how.confirm(tmp_path / "memory.json", subject, batch_size=4)[0] == "batch_size 4 is 2 in the record"


def test_a_record_of_another_kind_is_not_confirmed(study, tmp_path):
    subject = study.subject(tmp_path, None, CPU)
    MEASUREMENTS["memory"].measure(subject, batch_size=2).save(tmp_path / "a.json")
    with pytest.raises(RecordError, match="is not a record of odelib"):
        MEASUREMENTS["confusion"].confirm(tmp_path / "a.json", subject)

"""The status page says what lies among the results, who made it, what is stale; nothing in a record is markup."""

import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from odelib import Run
from odelib.book import pages
from odelib.book.faults import Fault, Faults
from odelib.book.status import Status, versions
from odelib.measurements import MEASUREMENTS
from odelib.records import RESULTS, Confirmation, Record
from odelib.sources import digest
from odelib.studies import STUDIES

STORED = RESULTS / "mnist-gradients"


def cells(table) -> list[list]:
    """The rows of a table as a reader sees them."""
    header, rows = table
    assert all(len(row) == len(header) for row in rows)
    return [[html.unescape(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "mnist-gradients").mkdir()
    for name in ("none-seed0.json", "direct-dopri5-seed1.json", "timing.json"):
        shutil.copy(STORED / name, tmp_path / "mnist-gradients")
    return tmp_path


def change(path: Path, kind: type[Record], **environment) -> None:
    record = kind.load(path)
    replace(record, environment=replace(record.environment, **environment)).save(path)


def test_every_stored_record_has_its_row():
    status = Status.read()
    runs, measurements = cells(status.runs()), cells(status.measurements())
    assert {f"{study}/{case}-seed{seed}.json" for study, case, seed, *_ in runs} | {
        f"{study}/{name}.json" for study, name, *_ in measurements
    } == {str(path.relative_to(RESULTS)) for path in RESULTS.glob("*/*.json")}
    assert status.finished() == f"{len(runs)} of {len(runs)} stored runs are finished."
    assert {row[1] for row in cells(status.missing())} == {"nothing"}
    assert status.unreadable() == "0 such files"


def test_a_run_shows_its_accuracy_its_machine_and_the_commit_that_made_it(folder):
    path = folder / "mnist-gradients" / "direct-dopri5-seed1.json"
    change(path, Run, commit="c0ffee+", settings=("OMP_NUM_THREADS=1",), hardware="Another")
    run = Run.load(path)
    replace(run, later=(run.environment,)).save(path)
    status = Status.read(folder)
    first, second = cells(status.runs())
    accuracy = f"{100 * run.last.test_accuracy:.2f}"
    assert first[:5] == ["mnist-gradients", "direct-dopri5", 1, "5 of 5", accuracy]
    assert first[5:] == [f"{run.environment.date} ‡", 1, "commit c0ffee and changes"]
    assert second[6:] == [2, "–"]
    one, two, *_ = cells(status.machines())
    assert (one[:2], one[-1]) == ([1, "Another"], "OMP_NUM_THREADS=1") and (two[0], two[-1]) == (2, "not kept")


def test_an_accuracy_on_images_to_choose_by_is_marked_and_a_run_without_an_epoch_has_none(folder):
    path = folder / "mnist-gradients" / "none-seed0.json"
    run = Run.load(path)
    chosen = replace(run.last, test_accuracy=None, validation_accuracy=0.5)
    replace(run, metrics=(*run.metrics[:-1], chosen)).save(path)
    assert cells(Status.read(folder).runs())[1][4] == "50.00 †"
    replace(run, metrics=()).save(path)
    status = Status.read(folder)
    assert cells(status.runs())[1][3:5] == ["0 of 5", "-"]
    assert status.finished() == "1 of 2 stored runs are finished."


def test_a_date_or_another_commit_makes_no_other_machine(folder):
    run = Run.load(folder / "mnist-gradients" / "none-seed0.json").environment
    change(folder / "mnist-gradients" / "direct-dopri5-seed1.json", Run, **vars(run) | {"date": "2030", "commit": "c0"})
    assert [row[6] for row in cells(Status.read(folder).runs())] == [1, 1]


def state(folder) -> list:
    (row,) = cells(Status.read(folder).measurements())
    return row[2:]


def test_a_stale_measurement_is_marked_with_the_reason_if_one_is_known(folder):
    path = folder / "mnist-gradients" / "timing.json"
    change(path, MEASUREMENTS["timing"].record, sources=None, commit=None, settings=None)
    assert state(folder)[2:] == ["–", "–", "stale"]
    assert cells(Status.read(folder).why_stale()) == [["mnist-gradients/timing", "not known"]]
    reasons = {"mnist-gradients/timing.json": "the time channel is <fused> now"}
    (folder / "stale.json").write_text(json.dumps(reasons))
    assert cells(Status.read(folder).why_stale()) == [["mnist-gradients/timing", "the time channel is <fused> now"]]


def test_a_measurement_that_fits_and_one_that_was_confirmed(folder):
    timing = MEASUREMENTS["timing"]
    path, today = folder / "mnist-gradients" / "timing.json", digest(timing.module)
    change(path, timing.record, sources=today, commit="c0ffee")
    assert state(folder)[2:] == ["commit c0ffee", "–", "fits the code"]
    assert cells(Status.read(folder).why_stale()) == []
    notes = Confirmation("2030-01-01", "A", "beef", "old"), Confirmation("2031-01-01", "A", None, today)
    change(path, timing.record, sources="older", confirmed=notes[:1])
    assert state(folder)[3:] == ["2030-01-01, commit beef", "stale"]
    change(path, timing.record, confirmed=notes)
    assert state(folder)[3:] == ["2030-01-01, commit beef; 2031-01-01, outside of a clone", "fits the code"]


def test_what_is_missing_is_cut_short_and_what_cannot_be_read_is_named(folder):
    (folder / "mnist-gradients" / "notes.json").write_text("{}")
    status = Status.read(folder)
    ((name, missing),) = cells(status.missing([STUDIES["mnist-gradients"]]))
    assert name == "mnist-gradients" and missing.startswith("direct-dopri5-seed0, direct-dopri5-seed2, ")
    assert missing.endswith(f" and {len(STUDIES[name].missing(folder)) - 8} more")
    assert status.unreadable() == (
        "mnist-gradients/notes.json is neither a run nor a measurement of odelib\n1 such files"
    )
    (folder / "mnist-gradients" / "none-seed0.json").write_text("{")
    ((_, missing),) = cells(Status.read(folder).missing([STUDIES["mnist-gradients"]]))
    assert missing.endswith(f" and {len(STUDIES[name].missing(folder)) - 8} more")
    assert "none-seed0" in STUDIES[name].missing(folder)


def test_a_package_that_is_not_installed_is_said_to_be_so(monkeypatch):
    monkeypatch.setattr("odelib.book.status.TOOLS", ("torch", "no-such-package"))
    rows = cells(versions())
    assert rows[-1] == ["no-such-package", "not installed"] and rows[-2][0] == "torch"


NASTY = [
    "<script>alert(1)</script>", "a | b", "`code`", "**bold** and _emphasis_", "$x$", "{glue:text}`key`", "\\|",
    "[link](https://example.org)", "<https://example.org>", "&lt;", "two\nlines", "# heading", "![image](x.png)",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_a_record_cannot_put_markup_into_a_page(text):
    markdown_it = pytest.importorskip("markdown_it")
    markdown = f"| a | b |\n| :-- | :-- |\n| {pages.verbatim(text)} | 1 |"
    shown = markdown_it.MarkdownIt("commonmark").enable("table").render(markdown)
    found = re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL)
    assert [html.unescape(cell) for cell in found] == [text, "1"]
    assert "<" not in found[0]


def test_every_text_of_a_record_goes_through_it(folder):
    script = "<script>|`"
    path = folder / "mnist-gradients" / "none-seed0.json"
    change(path, Run, hardware=script, date=script, commit=script, settings=(script,), torch=script)
    timing = folder / "mnist-gradients" / "timing.json"
    note = Confirmation(script, script, script, "old")
    change(timing, MEASUREMENTS["timing"].record, hardware=script, date=script, sources="old", confirmed=(note,))
    path.rename(path.with_name("<b>-seed0.json"))
    (folder / "stale.json").write_text(json.dumps({"mnist-gradients/timing.json": script}))
    status = Status.read(folder)
    for table in (status.runs(), status.measurements(), status.why_stale(), status.machines()):
        assert "&#60;" in str(table) and not re.search(r"[<>|`]", str(table))


def test_ordinary_words_stay_readable_in_the_source():
    assert pages.verbatim("AMD EPYC, 2.5 to 3") == "AMD EPYC, 2.5 to 3"


def test_numbers_are_glued_under_the_name_of_the_page(monkeypatch):
    glued = {}
    monkeypatch.setattr(pages, "glue", glued.__setitem__)
    pages.glue_all("page", {"a": "1", "b-c": "2"})
    assert glued == {"page-a": "1", "page-b-c": "2"}


def test_a_quotation_marks_every_line(monkeypatch):
    shown = []
    monkeypatch.setattr(pages, "display", shown.append)
    pages.quote("- one\n\n- two")
    assert shown[0].data == "> - one\n> \n> - two"


def test_faults_have_a_table_and_all_runs_survived_them(folder):
    """Of the record that is kept: a row whose numbers differ would be a promise that is broken."""
    rows = cells(Status.read().faults())
    assert len(rows) == 4 and all(tried == equal >= 10 for _, tried, equal in rows)
    assert Status.read().faults_made().startswith("Tried on ") and "and changes" not in Status.read().faults_made()
    none = Status.read(folder)
    assert none.faults()[1] == [] and none.faults_made() == "No such record is here."
    made = Faults.load(RESULTS / "faults.json")
    replace(made, rows=(Fault("<b>killed</b>", 7, 6),)).save(folder / "faults.json")
    assert Status.read(folder).faults()[1] == [[pages.verbatim("<b>killed</b>"), 7, 6]]

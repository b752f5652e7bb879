"""The status page lists every file of the results, and names those that cannot be read."""

import json
import shutil
from pathlib import Path

from odelib.records import RESULTS
from odelib.studies.results import read_results

STORED = RESULTS / "mnist-gradients"


def test_every_stored_record_is_read():
    records, damaged = read_results()
    assert not damaged
    assert set(records) == {path.relative_to(RESULTS) for path in RESULTS.rglob("*.json")}


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

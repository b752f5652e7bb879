"""Several views of a test image: what they are, and that a network's answer is the mean over them."""

from dataclasses import replace

import pytest
import torch

from odelib import RecordError, build
from odelib.measurements import MEASUREMENTS, Subject
from odelib.measurements.views import measure_views, views
from odelib.records import save_weights
from odelib.studies.summary import only
from odelib.training import evaluate

CPU = torch.device("cpu")


@pytest.fixture
def subject(quick, tiny, tmp_path) -> Subject:
    torch.manual_seed(0)
    config = replace(quick, width=4)
    save_weights(tmp_path / "a-seed0.safetensors", build(config, tiny), config)
    return Subject({"a": config}, tiny, CPU, tmp_path)


def test_an_image_a_pixel_further_and_each_mirrored():
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    seen = views(x)[:, 0, 0]
    assert seen.shape == (6, 3, 4)
    assert seen[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert seen[2].tolist() == [[5, 6, 7, 6], [9, 10, 11, 10], [5, 6, 7, 6]]  # up and left
    assert seen[4].tolist() == [[5, 4, 5, 6], [1, 0, 1, 2], [5, 4, 5, 6]]  # down and right
    for k in (0, 2, 4):
        assert seen[k + 1].equal(seen[k].flip(-1))


def test_the_answer_is_that_of_the_mean_over_the_first_views(subject, tiny):
    found = measure_views(subject)
    ((_, _, model),) = subject.networks()
    assert found.images == len(tiny.test)
    assert only(found.rows, views=1).accuracy == pytest.approx(evaluate(model, tiny.test)[1])
    x = tiny.test.images.float() / 255
    with torch.no_grad():
        logits = torch.stack([model(view) for view in views(x)])
    for n in (2, 6):
        right = logits[:n].mean(0).argmax(1) == tiny.test.labels
        assert only(found.rows, views=n).accuracy == pytest.approx(right.float().mean().item())


def test_fewer_images_and_fewer_views(subject):
    found = measure_views(subject, images=7, numbers=(1, 2))
    assert found.images == 7 and [row.views for row in found.rows] == [1, 2]


def test_it_is_confirmed_and_wants_weights(subject, tmp_path):
    how, path = MEASUREMENTS["views"], tmp_path / "views.json"
    how.measure(subject).save(path)
    assert how.confirm(path, subject) == []
    with pytest.raises(RecordError, match="holds no weights of this study"):
        measure_views(replace(subject, cases={"b": subject.cases["a"]}))

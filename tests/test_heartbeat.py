"""A heartbeat: a bar that is shown says when a step takes far longer than others, and then no more."""

import io
import time

import pytest
from torch import nn
from tqdm import tqdm

from odelib import Config, fit, heartbeat, training


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(heartbeat, "PATIENCE", 0.05)
    return io.StringIO()


def test_a_step_that_takes_long_is_told_while_it_does_and_forgotten_after(terminal):
    bar = tqdm([1, 2], "epoch 1", file=terminal, disable=False)
    with heartbeat.heartbeat(bar, 0.001):
        time.sleep(0.3)
        assert "this step takes more than 0 s, the others took 0.001 s" in terminal.getvalue()
    assert bar.postfix is None


@pytest.mark.parametrize("usual, hidden", [(1.0, False), (0.0, False), (0.001, True)])
def test_usual_steps_the_first_one_and_hidden_bars_say_nothing(terminal, usual, hidden):
    bar = tqdm([1, 2], file=terminal, disable=hidden)
    with heartbeat.heartbeat(bar, usual):
        time.sleep(0.15)
    assert "takes more" not in terminal.getvalue()


def test_training_compares_a_step_with_those_before_it(tiny, monkeypatch):
    seen = []

    def watched(bar, usual, heartbeat=heartbeat.heartbeat):
        seen.append(usual)
        return heartbeat(bar, usual)

    monkeypatch.setattr(training, "heartbeat", watched)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    for _ in fit(model, tiny, Config(batch_size=16, epochs=1, lr=0.01)):
        pass
    assert len(seen) == 3 and seen[0] == 0 < min(seen[1:])

"""What a run could not do is said before it begins; what machines were told differently ends the one that was."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_loop import MODELS, config, labelled_data

from alignment.training import optimizer, tracking
from pipelines.loop import driver
from pipelines.loop.directory import RunDirectory
from pipelines.loop.first_checks import check_alike, check_run
from pipelines.loop.run import Run
from videoduet import quantized
from videoduet.errors import InputError
from videoduet.machines import Machine


@pytest.fixture
def with_bits(monkeypatch):
    """bitsandbytes and a GPU, as far as anybody asks."""
    monkeypatch.setattr(quantized, "find_spec", lambda _: SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def refreshed(root, path, **training):
    data = {**labelled_data(root, 4), "training": training}
    return config(root, judge={"factory": None, "path": str(path)}, refresh=data)


def test_fewer_bits_are_looked_for_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda _: None)
    four = config(tmp_path, align={"load_in": "4bit"})
    with pytest.raises(InputError, match=r"align.load_in is '4bit', which needs bitsandbytes; pip install"):
        Run.start(four)
    assert not list((tmp_path / "run").iterdir())
    with pytest.raises(InputError, match=r"refresh.training.load_in is '8bit', which needs bitsandbytes"):
        Run.start(refreshed(tmp_path, MODELS / "judge", load_in="8bit"))
    # What is over needs nothing any more.
    for number in range(2):
        RunDirectory(four.run_dir).finish(RunDirectory(four.run_dir).phase("align", number))
    check_run(four, RunDirectory(four.run_dir))


def test_an_adapter_cannot_be_refreshed_in_fewer_bits(tmp_path, with_bits):
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"judge.path .*judge is an adapter, which cannot be merged .*merge it first"):
        Run.start(refreshed(tmp_path, tmp_path / "judge", load_in="4bit"))
    check_run(refreshed(tmp_path, MODELS / "judge", load_in="4bit"), RunDirectory(tmp_path / "run"))


@pytest.mark.parametrize(
    ("module", "align", "words"),
    [
        (tracking, {"tracker": "trackio"}, "align.tracker is 'trackio'; pip install trackio"),
        (optimizer, {"optimizer": "adamw_8bit"}, "align.optimizer is 'adamw_8bit', which needs bitsandbytes"),
    ],
)
def test_packages_are_looked_for_before_any_work(tmp_path, monkeypatch, module, align, words):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=words):
        Run.start(config(tmp_path, align=align))


SECOND = Machine(1, 2)


@pytest.mark.parametrize(
    ("changes", "words"), [({"score": {"stop": "when_worse"}}, "score.stop"), ({"rounds": 3}, "rounds")]
)
def test_machines_are_told_the_same_rounds(tmp_path, monkeypatch, changes, words):
    first = Run.start(config(tmp_path), Machine(0, 2))
    kept = (first.directory.root / "config.yaml").read_bytes()
    monkeypatch.setattr("pipelines.loop.run.PATIENCE", 0.05)
    other = config(tmp_path, **changes)
    with pytest.raises(InputError, match=f"has {words} = .* and machine 1/2 was given .*; give all machines the same"):
        Run.start(other, SECOND)
    assert (first.directory.root / "config.yaml").read_bytes() == kept
    # The first may say it anew, and what goes on elsewhere ends with the same sentence at its next phase.
    going = Run.start(config(tmp_path), SECOND)
    Run.start(other, Machine(0, 2))
    with pytest.raises(InputError, match=f"has {words} = "):
        driver.drive(going, merge=False, after_each=list)
    check_alike(other, first.directory, SECOND)


def test_a_machine_waits_a_little_for_the_first(tmp_path):
    first = Run.start(config(tmp_path), Machine(0, 2))
    more = replace(first.config, rounds=3)
    later = threading.Timer(0.1, lambda: first.directory.adopt_config(more))
    later.start()
    check_alike(more, first.directory, SECOND, patience=5)
    later.join()

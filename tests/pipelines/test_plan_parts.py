"""What the plans of single commands say: a training on stored preferences, an evaluation on VBench."""

import importlib
import json
from pathlib import Path

import pytest
from small_loop import MODELS

from alignment.training.config import AlignConfig, PreferenceTrainingConfig
from evaluation.vbench.config import VBenchEvaluationConfig
from pipelines.loop.plan_parts import planned_evaluation, planned_training
from pipelines.loop.rates import cards
from videoduet.errors import InputError


@pytest.fixture
def data(tmp_path) -> str:
    """Forty pairs, whose videos are not here."""
    rows = [
        {"caption": f"{number}", "chosen": f"{number}_a.mp4", "rejected": f"{number}_b.mp4"} for number in range(40)
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    return str(tmp_path / "pairs.json")


def training(data: str, generator: str = "models/t2v_turbo", **align) -> PreferenceTrainingConfig:
    settings = AlignConfig(batch_size=4, epochs=2, draws_per_pair=1, held_out=0.1, **align)
    return PreferenceTrainingConfig(generator=generator, data=data, output="out", dtype="bfloat16", align=settings)


def test_a_training_is_planned_without_weights_or_videos(data):
    rows = planned_training(training(data))
    assert (rows["pairs"], rows["optimizer steps"]) == ("40", "18")
    for card in cards():
        assert "GB" in next(value for name, value in rows.items() if name.startswith(f"GPU hours on {card.name}"))
    assert rows["cheapest that fits"].split(",")[0] in {card.name for card in cards()} and "note" not in rows
    assert planned_training(training(data, max_steps=3))["optimizer steps"] == "3"


def test_what_is_not_reckoned_is_said(data):
    whole = planned_training(training(data, parameters="all"))
    assert "GB" not in whole["GPU hours on h100"] and "all weights" in whole["note"]
    toy = planned_training(training(data, str(MODELS / "generator")))
    assert toy["pairs"] == "40" and "--rehearse measures them" in toy["note"]
    with pytest.raises(InputError, match="neither on this disk nor known"):
        planned_training(training(data, "nobody/nothing"))


def test_an_evaluation_is_planned_by_its_videos(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path))
    config = VBenchEvaluationConfig(generator="models/t2v_turbo", output="out", dtype="bfloat16")
    assert planned_evaluation(config)["videos to draw, at most"] == "6,220"
    assert planned_evaluation(VBenchEvaluationConfig(videos="clips", output="out"))["videos to draw"] == "0"


def test_the_commands_print_it_and_write_nothing(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--generator", "models/t2v_turbo", "--output", "out", "--plan"]
    for command, more in (("train_generator", ["--data", data]), ("evaluate_vbench", [])):
        importlib.import_module(f"pipelines.{command}").main([*common, *more])
        assert "cheapest that fits" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["pairs.json"]

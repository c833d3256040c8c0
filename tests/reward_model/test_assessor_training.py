"""AIGV-Assessor's three stages on tiny data: what is trained, when it stops, and that a killed one ends the same."""

import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_assessor import write_assessor

from reward_model import build_judge
from reward_model.datasets import PreferenceItem, Reading, ScoredClip
from reward_model.judging.assessor import AssessorJudge
from reward_model.judging.tasks import right_answer
from reward_model.presets import ASSESSED
from reward_model.training import assessing, assessor_trainer
from reward_model.training.assessed_rows import lessons
from reward_model.training.assessor_config import AssessorTraining
from reward_model.training.calibration import measured
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig, RewardConfig
from reward_model.training.mixture import Ingredient, usable
from reward_model.training.stage import Trained, cost, train_stage
from videoduet.errors import InputError
from videoduet.video import FrameSampling, write_video

TRAINING = GRPOTraining(steps=6, pairs_per_step=2, learning_rate=3e-2, lora_rank=2, micro_batch=1, checkpoint_steps=2)
ASSESSOR = AssessorTraining(validation=0.5, widths=[8], pair_width=8, dropout=0.1, lora_alpha=4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[str]:
    """Sixteen videos from dark to light."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for place in range(16):
        frames = rng.integers(0, 60, (8, 32, 32, 3)) + 12 * place
        write_video(folder / f"{place:02d}.mp4", frames.astype(np.uint8), 8)
    return [str(folder / f"{place:02d}.mp4") for place in range(16)]


def scored(clips: list[str]) -> Ingredient:
    items = [
        ScoredClip(path=path, scores=dict.fromkeys(ASSESSED, 5.0 + 6 * place), prompt=f"a red circle {place // 2}")
        for place, path in enumerate(clips)
    ]
    return Ingredient(Reading("clips", "all", items, (0.0, 100.0)))


def paired(clips: list[str]) -> Ingredient:
    items = [
        PreferenceItem(first=one, second=other, prompt=f"a {i}", preferred=dict.fromkeys(ASSESSED, "second"))
        for i, (one, other) in enumerate(itertools.pairwise(clips))
    ]
    return Ingredient(Reading("pairs", "all", items))


def config(stage: str, model: Path, output: Path, **training: object) -> JudgeTrainingConfig:
    return JudgeTrainingConfig(
        model=str(model), data=[DataConfig(name="clips", folder="")], output=str(output),
        training=replace(TRAINING, **training), assessor=replace(ASSESSOR, stage=stage), seed=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stages(clips, tmp_path_factory) -> dict[str, Trained]:
    """Each stage on what the one before left, the first on a judge without heads and networks."""
    folder = tmp_path_factory.mktemp("stages")
    at = write_assessor(folder / "base", heads=False, pairs=False)
    found = {"base": Trained(at, 0, 0, 0)}
    for stage, data in (("levels", scored(clips)), ("scores", scored(clips)), ("pairs", paired(clips))):
        found[stage] = train_stage(config(stage, at, folder / stage), [data])
        at = found[stage].path
    return found


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return {name: value for file in trained.path.glob("*.safetensors") for name, value in load_file(file).items()}


def test_each_stage_trains_its_part_and_leaves_the_rest(stages):
    before = weights(stages["base"])
    for stage, parts in (
        ("levels", ("multi_modal_projector.", "motion_mlp.")),
        ("scores", ("vision_tower.encoder.", "language_model.")),
        ("pairs", ()),
    ):
        after = weights(stages[stage])
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert {part for part in parts if any(part in name for name in changed)} == set(parts)
        assert all(any(part in name for part in parts) for name in changed)
        before = after
    assert {name.split(".")[0] for name in before} >= {"motion_mlp", "slowfast_model", "score_heads", "pair_networks"}


def test_what_is_left_is_a_judge(stages, clips):
    judge = build_judge(stages["pairs"].path, device="cpu")
    assert isinstance(judge, AssessorJudge)
    one, other = judge.score([(clips[0], "a red circle"), (clips[11], "a red circle")])
    assert [d.name for d in one.dimensions] == list(ASSESSED) and other.score is not None
    (comparison,) = judge.compare([(clips[0], clips[11], "a")])
    assert comparison.status == "decided" and comparison.p_first is not None
    kept = json.loads((stages["scores"].path / "config.json").read_text())
    assert kept["score_calibration"].keys() == {"margins", "slope"}
    assert 0 < kept["score_calibration"]["margins"]["0.95"] == judge.margin(0.95)
    with pytest.raises(InputError, match=r"0\.123 sure"):
        judge.margin(0.123)
    told = json.loads((stages["scores"].path.parent / "training.json").read_text())
    assert [*told["validation"]] == ["2", "4", "6"] and str(told["best"]) in told["validation"]
    assert told["validation"][str(told["best"])] == min(told["validation"].values())
    assert not (stages["scores"].path.parent / "checkpoints").exists()


@pytest.mark.parametrize(
    "stage", ["scores", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("levels", "pairs"))]
)
def test_a_killed_training_ends_with_the_same_bytes(stages, clips, tmp_path, stage):
    before = {"levels": "base", "scores": "levels", "pairs": "scores"}[stage]
    data = paired(clips) if stage == "pairs" else scored(clips)

    class KilledError(Exception):
        pass

    def kill(step: int) -> None:
        if step == 5:
            raise KilledError

    asked = config(stage, stages[before].path, tmp_path / "run")
    with pytest.raises(KilledError):
        train_stage(asked, [data], kill)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-4").exists()
    again = train_stage(asked, [data])
    first, second = weights(stages[stage]), weights(again)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert train_stage(asked, [data]) == again, "what is done is not done again"


def test_it_stops_where_nothing_gets_better(stages, clips, tmp_path, monkeypatch):
    values = iter([5.0, 1.0, 2.0, 3.0, 4.0])
    evaluate = assessor_trainer.AssessorTrainer.evaluate
    monkeypatch.setattr(assessor_trainer.math, "fsum", lambda losses: next(values) * len(losses))
    assert evaluate is assessor_trainer.AssessorTrainer.evaluate
    asked = config("pairs", stages["scores"].path, tmp_path / "run", steps=12)
    asked = replace(asked, assessor=replace(asked.assessor, patience=2))
    trained = train_stage(asked, [paired(clips)])
    told = json.loads((tmp_path / "run" / "training.json").read_text())
    assert told["best"] == 4 and trained.steps == 8 and [*told["validation"]] == ["2", "4", "6", "8"]


def test_pairs_of_other_lengths_are_learned_from(stages, clips, tmp_path):
    """At so many frames a second: pairs of like length in one batch, and those of unlike length are left out."""
    rng, short = np.random.default_rng(1), [str(tmp_path / f"{name}.mp4") for name in "ab"]
    for path in short:
        write_video(path, rng.integers(0, 255, (4, 32, 32, 3)).astype(np.uint8), 8)
    data = paired([*clips[:12], *short])
    asked = config("pairs", stages["scores"].path, tmp_path / "run", steps=2, micro_batch=2, pairs_per_step=12)
    asked = replace(asked, frames=FrameSampling(fps=8, min_frames=4, max_frames=8), assessor=replace(
        asked.assessor, validation=0))  # fmt: skip
    assert train_stage(asked, [data]).steps == 2
    reasons = json.loads((tmp_path / "run" / "unreadable.json").read_text())
    ((both, reason),) = reasons.items()
    assert both == " / ".join(sorted((clips[11], short[0]))) and "frames, and networks" in reason


def test_best_weights_do_not_pile_up(stages, clips, tmp_path, monkeypatch):
    values = iter([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    monkeypatch.setattr(assessor_trainer.math, "fsum", lambda losses: next(values) * len(losses))
    kept: list[list[str]] = []
    asked = config("pairs", stages["scores"].path, tmp_path / "run", steps=6, checkpoint_steps=1)
    train_stage(
        asked, [paired(clips)], lambda _: kept.append(sorted(p.stem for p in (tmp_path / "run").glob("best/*")))
    )
    assert [int(each) for each in kept[-1]] == [3, 4, 5]


def test_rows_hold_whole_prompts_out(clips):
    found = lessons([scored(clips[:12])], ASSESSED, count=20, validation=0.3, seed=1)
    held, trained = ({row["text"] for row in rows} for rows in (found.held_out, found.train))
    assert len(held) == 2 and not held & trained and len(found.held_out) == 4 and len(found.train) == 20
    assert found == lessons([scored(clips[:12])], ASSESSED, count=20, validation=0.3, seed=1)
    (row,) = lessons([paired(clips[:12])], ["static quality", "colour"], count=1, validation=0, seed=0).train
    assert row["target"][0] in (0.0, 1.0) and math.isnan(row["target"][1]) and len(row["videos"]) == 2


def test_data_that_do_not_fit_are_told(stages, clips, tmp_path):
    other = Ingredient(Reading("x", "all", [ScoredClip(path=clips[0], scores={"beauty": 1.0})], (0.0, 5.0)))
    for stage, data, said in (
        ("scores", paired(clips), "pairs holds no scored clips"),
        ("pairs", scored(clips), "clips holds no pairs"),
        ("scores", other, "The data rate beauty, and the judge rates static quality"),
        ("levels", Ingredient(Reading("y", "all", scored(clips).reading.items[:2], (0.0, 100.0))), "takes all of y"),
    ):
        with pytest.raises(InputError, match=said):
            train_stage(config(stage, stages["levels"].path, tmp_path / f"{stage} {said[:9]}"), [data])
    with pytest.raises(InputError, match="leave adapter and hard_pairs out"):
        replace(config("scores", stages["levels"].path, tmp_path), hard_pairs=True)
    with pytest.raises(InputError, match="leave training.load_in out"):
        config("scores", stages["levels"].path, tmp_path, load_in="4bit")
    with pytest.raises(InputError, match=r"leave training.method, training.clip out"):
        config("scores", stages["levels"].path, tmp_path, method="sft", clip=0.1)
    with pytest.raises(InputError, match=r"leave rewards, reasoning out"):
        replace(
            config("scores", stages["levels"].path, tmp_path), rewards=RewardConfig(length=True), reasoning=False
        )  # fmt: skip
    with pytest.raises(InputError, match="dimension"):
        AssessorTraining(question="How good is it?")
    told = cost(config("scores", stages["levels"].path, tmp_path), [scored(clips)])
    assert told == {"steps": 6, "items": 12}, "nothing is generated"


def test_pairs_by_dimension_alone_are_for_numbers(clips):
    ingredient = paired(clips[:12])
    assert len(usable(ingredient.reading).items) == 11
    with pytest.raises(InputError, match="labelled by dimension alone"):
        right_answer(ingredient.reading.items[0], None, (0, 1))


def test_calibration_covers_what_it_says():
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 100, 400)
    given = true + rng.normal(0, 5, 400)
    groups = [str(place // 4) for place in range(400)]
    told = measured(given, true, groups)
    assert told["margins"]["0.95"] == pytest.approx(1.96 * 5 * 2**0.5, rel=0.15)
    closer = measured(true + rng.normal(0, 1, 400), true, groups)
    assert closer["margins"]["0.5"] < told["margins"]["0.5"] / 3 and closer["slope"] > told["slope"] > 0.1
    assert measured(given[:3], true[:3], groups[:3]) == {}
    few = measured(given[:8], true[:8], groups[:8])["margins"]
    assert len(few) == 5 and "0.95" not in few, "twelve or so errors cannot say what holds in 19 of 20 cases"


def test_the_recipes_are_the_releases(monkeypatch):
    from pipelines.train_reward_model import parse

    found = [parse(["--config", f"configs/reward_model/aigv_assessor/{n}.yaml"]) for n in ("levels", "scores", "pairs")]
    assert [each.assessor.stage for each in found] == ["levels", "scores", "pairs"]
    for each in found:
        assert (each.training.learning_rate, each.training.epochs, each.training.items_per_step) == (4e-5, 50, 4)
        assert (each.assessor.weight_decay, each.assessor.warmup) == (0.01, 0.03)
    assert (found[1].training.lora_rank, found[1].assessor.lora_alpha, found[1].assessor.dropout) == (8, 16, 0.05)
    assert found[1].assessor.widths == [1024, 256, 64, 16]
    assert assessing.VISION.endswith("(_proj|projection_layer|fc1|fc2)")


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(stages, clips, tmp_path):
    """What a LoRA drops follows from the rows; only the order of sums differs."""
    here = Path(__file__).parent
    ways = {"one": [], "two": ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29643"]}
    path = os.pathsep.join([str(here.parents[1]), str(here)])
    for name, launcher in ways.items():
        command = [sys.executable, *launcher, here / "assessor_in_processes.py", stages["levels"].path,
                   Path(clips[0]).parent, tmp_path / name]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("scores", "pairs"):
        logs = [json.loads((tmp_path / name / stage / "training.json").read_text()) for name in ways]
        assert logs[0]["best"] == logs[1]["best"]
        assert [*logs[0]["validation"].values()] == pytest.approx([*logs[1]["validation"].values()], abs=1e-4)
        states = [weights(Trained(tmp_path / name / stage / "model", 0, 0, 0)) for name in ways]
        assert states[0].keys() == states[1].keys()
        assert all(torch.allclose(states[0][name], states[1][name], atol=1e-3) for name in states[0])

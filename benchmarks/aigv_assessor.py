"""AIGV-Assessor in the laboratory, in three stages: ``python -m benchmarks.aigv_assessor --output DIR``.

Rendered clips of shapes world, several for each prompt, with known damage, written as AIGVQA-DB is published (scores,
prompts, pairs), are learned by the laboratory's InternVL with its SlowFast, by the project's own command, and measured
on clips of other prompts. The same command goes on where it was.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import numpy as np

from benchmarks.reward_learning_data import shipped_vae
from pipelines import train_reward_model
from reward_model.datasets.aigvqa import DIMENSIONS
from reward_model.families.convert import add_motion
from reward_model.judging.assessor import AssessorJudge
from reward_model.judging.build import scorer_at
from reward_model.metrics import srcc
from reward_model.presets import ASSESSMENT
from reward_model.training.assessor_config import AssessorTraining
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig
from shapes_world.build_internvl import InternVLBuild, teach_internvl
from shapes_world.judge_data import DamagedClip, damaged_clip, with_errors
from shapes_world.world import FPS, SIZE, Scene, all_scenes
from videoduet.config import resolve
from videoduet.intervals import bootstrap_interval
from videoduet.progress import console, track
from videoduet.seeding import seed_for
from videoduet.store import read_json, write_json
from videoduet.video import write_video

INTERNVL, SLOWFAST = "shapes_world/models/internvl", "shapes_world/models/slowfast"
CLEAR = 15.0
"""Points between two videos from which on a pair is clear."""
MOVES = {"slowly": 40.0, "fast": 90.0}
"""The dynamic degree by speed, of which the world has two."""
BARS = {"static quality": 0.8, "temporal smoothness": 0.7, "text-video correspondence": 0.6}
ASKED = replace(
    ASSESSMENT, system=None, question="{prompt}", answer="{dimension}", num_frames=8, max_pixels=SIZE * SIZE,
)  # fmt: skip
"""Few words, as the tiny judge knows few, and spells the others letter by letter."""


@dataclass(frozen=True)
class Stage:
    """How long a stage is, and how it learns."""

    steps: int
    learning_rate: float
    items: int = 16
    rank: int = 16


@dataclass(frozen=True)
class Laboratory:
    """How much is learned from how much; the defaults take under 40 minutes of two cores."""

    prompts: int = 400
    clips: int = 5
    tested: int = 80
    levels: Stage = field(default_factory=lambda: Stage(60, 1e-3))
    scores: Stage = field(default_factory=lambda: Stage(700, 2e-3))
    pairs: Stage = field(default_factory=lambda: Stage(600, 1e-3))
    seed: int = 0


@dataclass(frozen=True)
class Rated:
    """A clip, the prompt that it answers, and its scores in 0 to 100."""

    name: str
    prompt: str
    clip: DamagedClip
    scores: dict[str, float]


def rated(split: str, prompts: int, clips: int, seed: int, vae: Any) -> Iterator[Rated]:
    """``clips`` of each of ``prompts``, which no other split has."""
    scenes = [scene for i, scene in enumerate(all_scenes()) if (i % 5 == 0) == (split == "test")]
    for number in range(prompts):
        asked: Scene = scenes[seed_for(split, seed, number) % len(scenes)]
        for place in range(clips):
            made = seed_for(split, seed, number, place)
            rng = np.random.default_rng(made)
            clip = damaged_clip(with_errors(asked, rng), made, vae)
            values = (100 * clip.spatial, 100 * clip.temporal, MOVES[clip.scene.speed], 100 * clip.alignment(asked))
            yield Rated(
                f"{split}/{number:04d}_{place}.mp4", asked.prompt, clip, dict(zip(DIMENSIONS, values, strict=True))
            )


def write_dataset(folder: Path, lab: Laboratory) -> None:
    """Clips in the layout of AIGVQA-DB: ``mydata_mos1_train.jsonl`` and so on, ``prompts.csv``, ``pairs_train.csv``."""
    if (folder / "done.json").exists():
        return
    vae = shipped_vae()
    prompts: list[list[str]] = [["video", "prompt"]]
    for split, count in (("train", lab.prompts), ("test", lab.tested)):
        made = track(rated(split, count, lab.clips, lab.seed, vae), f"{split} clips", total=count * lab.clips)
        clips = list(made)
        for each in clips:
            write_video(folder / each.name, each.clip.frames, FPS)
            prompts.append([each.name, each.prompt])
        for number, name in enumerate(DIMENSIONS, 1):
            rows = [{"video": c.name, "id": f"{Path(c.name).name}->{c.scores[name]!r}"} for c in clips]
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (folder / f"mydata_mos{number}_{split}.jsonl").write_text(text)
        _table(folder / f"pairs_{split}.csv", _pairs(clips))
        write_json(folder / f"{split}.json", {c.name: {"prompt": c.prompt, "scores": c.scores} for c in clips})
    _table(folder / "prompts.csv", prompts)
    write_json(folder / "done.json", asdict(lab))


def _pairs(clips: Sequence[Rated]) -> list[list[str]]:
    rows = [["first", "second", "prompt", *DIMENSIONS]]
    for _, group in itertools.groupby(clips, key=lambda clip: Path(clip.name).stem.rpartition("_")[0]):
        for one, other in itertools.combinations(list(group), 2):
            gaps = [one.scores[name] - other.scores[name] for name in DIMENSIONS]
            labels = ["tie" if abs(gap) < 1 else "first" if gap > 0 else "second" for gap in gaps]
            rows.append([one.name, other.name, one.prompt, *labels])
    return rows


def _table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def train(output: Path, lab: Laboratory, internvl: str, slowfast: str) -> Path:
    """The judge that three stages leave, by ``pipelines.train_reward_model``."""
    model, sees = output / "base", Path(resolve(internvl))
    if not sees.exists():
        # It may not ship; then it is built first, which takes as long again.
        sees = output / "internvl"
        teach_internvl(InternVLBuild(seed=lab.seed), shipped_vae(), sees, output / "work")
    if not model.exists():
        add_motion(sees, Path(resolve(slowfast)), model, seed=lab.seed)
    # As a judge's own wording goes before the release's.
    ASKED.save(model, "score")
    stages: dict[Literal["levels", "scores", "pairs"], Stage]
    stages = {"levels": lab.levels, "scores": lab.scores, "pairs": lab.pairs}
    for name, stage in stages.items():
        data = "aigvqa_pairs" if name == "pairs" else "aigvqa_db"
        config = JudgeTrainingConfig(
            model=str(model), data=[DataConfig(name=data, folder=str(output / "data"))], output=str(output / name),
            training=GRPOTraining(
                steps=stage.steps, pairs_per_step=stage.items, learning_rate=stage.learning_rate, lora_rank=stage.rank,
                micro_batch=stage.items, checkpoint_steps=max(1, stage.steps // 10),
            ),
            assessor=AssessorTraining(stage=name, widths=[64, 16], lora_alpha=2 * stage.rank, validation=0.05),
            seed=lab.seed,
        )  # fmt: skip
        found = train_reward_model.train(config)
        assert found is not None
        model = found
    return model


def measured(judge: AssessorJudge, folder: Path) -> dict[str, Any]:
    """SRCC with its interval, by dimension, on the test clips; accuracy on clear pairs by networks and by scores."""
    truth: dict[str, Any] = read_json(folder / "test.json")
    given = [(str(folder / name), about["prompt"]) for name, about in truth.items()]
    scores = list(track(judge.score(given), "test clips", total=len(given)))
    found: dict[str, Any] = {"clips": len(given), "dimensions": {}, "pairs": {}}
    for place, name in enumerate(DIMENSIONS):
        mine = np.array([score.dimensions[place].value for score in scores])
        true = np.array([about["scores"][name] for about in truth.values()])
        found["dimensions"][name] = {"srcc": srcc(mine, true), "interval": bootstrap_interval(srcc, mine, true)}
    with (folder / "pairs_test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(str(folder / row["first"]), str(folder / row["second"]), row["prompt"]) for row in rows]
    by = {way: [logits for _, logits in judge.preferences(pairs, by=way)] for way in ("networks", "scores")}
    right: dict[str, list[float]] = {way: [] for way in by}
    for name in DIMENSIONS:
        gaps = np.array([truth[r["first"]]["scores"][name] - truth[r["second"]]["scores"][name] for r in rows])
        clear = np.flatnonzero(np.abs(gaps) >= CLEAR)
        hit = {way: [float(logits[i][name] * gaps[i] > 0) for i in clear] for way, logits in by.items()}
        found["pairs"][name] = {"clear": len(clear), **_beside(hit)}
        for way in right:
            right[way] += hit[way]
    found["pairs"]["all"] = {"clear": len(right["scores"]), **_beside(right)}
    return found


def _beside(hit: dict[str, list[float]]) -> dict[str, Any]:
    gap = np.array(hit["networks"]) - np.array(hit["scores"])
    return {
        **{way: float(np.mean(values)) for way, values in hit.items()}, "networks - scores": float(gap.mean()),
        "interval": bootstrap_interval(np.mean, gap),
    }  # fmt: skip


def main(output: Path, lab: Laboratory = Laboratory(), internvl: str = INTERNVL, slowfast: str = SLOWFAST) -> None:
    """Make the data, train, measure.

    Args:
        output: Where everything goes.
        lab: How much.
        internvl: The laboratory's InternVL.
        slowfast: Its motion encoder.
    """
    write_dataset(output / "data", lab)
    judge = scorer_at(str(train(output, lab, internvl, slowfast)))
    found = measured(judge, output / "data")
    write_json(output / "results.json", found)
    for name, told in found["dimensions"].items():
        bar = f" (bar {BARS[name]})" if name in BARS else ""
        low, high = told["interval"]
        console.print(f"{name}: SRCC {told['srcc']:.3f} [{low:.3f}, {high:.3f}]{bar}", markup=False)
    for name, told in found["pairs"].items():
        low, high = told["interval"]
        console.print(
            f"{told['clear']} clear pairs, {name}: networks {told['networks']:.3f}, scores {told['scores']:.3f}, "
            f"difference {told['networks - scores']:+.3f} [{low:+.3f}, {high:+.3f}]", markup=False,
        )  # fmt: skip


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False, description=__doc__)

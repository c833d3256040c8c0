"""The loop at its smallest: four prompts, three videos each, two optimizer steps, the generator that ships."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from generators.sampling import read_samples
from pipelines import united_finetune
from pipelines.loop.config import RunConfig, parse
from pipelines.loop.phases import Turn, phase_of, phase_path
from pipelines.loop.run import Run
from shapes_world import all_scenes
from videoduet.records import Sample

SCENES = all_scenes()[::31]
MODELS = Path(__file__).parent.parent.parent / "shapes_world" / "models"
shipped_judge = pytest.mark.skipif(
    not (MODELS / "second_judge").exists(), reason="the tiny judges are not built yet (python -m shapes_world.build)"
)


def recipe(root: Path, name: str = "recipe.yaml", **changes) -> Path:
    """Write a recipe that runs in ``root``; ``changes`` replace sections, or keys of a section given as dictionary."""
    for file, scenes in (("train.txt", SCENES[:4]), ("held_out.txt", SCENES[4:6])):
        if not (root / file).exists():
            (root / file).write_text("".join(scene.prompt + "\n" for scene in scenes))
    sections = {
        "run_dir": str(root / "run"),
        "rounds": 2,
        "prompts": {"train": str(root / "train.txt"), "held_out": str(root / "held_out.txt")},
        "generator": {
            "path": "shapes_world/models/generator",
            "sampler": {"steps": 2, "guidance_scale": 3.0, "num_frames": 4},
            "videos_per_prompt": 3,
            "batch_size": 4,
        },
        "judge": {"factory": "scripted_judges.Brightest"},
        "audit": {"clips": 0},
        "align": {
            "beta": 300.0, "learning_rate": 1.0e-3, "batch_size": 4, "micro_batch": 4, "draws_per_pair": 2, "epochs": 2,
            "lora_rank": 2, "lora_alpha": 2, "max_steps": 2, "warmup_steps": 0, "checkpoint_steps": 1,
        },
        "score": {"videos_per_prompt": 1, "vbench": {"dimensions": []}},
    }  # fmt: skip
    for section, change in changes.items():
        sections[section] = {**sections.get(section, {}), **change} if isinstance(change, dict) else change
    path = root / name
    path.write_text(yaml.safe_dump(sections))
    return path


def labelled_data(root: Path, pairs: int) -> dict[str, str]:
    """The first few of the judge's original pairs, to learn from and held out, as the config names them."""
    data = MODELS / "judge_data"
    for name in ("train", "held_out"):
        rows = [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()[:pairs]]
        rows = [row | {side: str(data / row[side]) for side in ("first", "second")} for row in rows]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"original_data": str(root / "train.jsonl"), "held_out_data": str(root / "held_out.jsonl")}


def config(root: Path, **changes) -> RunConfig:
    return parse(["--config", str(recipe(root, **changes))])[0]


def do(run: Run, phase: str, round_number: int) -> None:
    """One phase of a run."""
    Turn(phase_of(phase), round_number).do(run)


def samples_of(root: Path, phase: str, round_number: int | None = None, version: str = "*") -> list[Sample]:
    """The samples of a phase, damaged ones too."""
    return read_samples(root / phase_path(phase, round_number), version, root=root)


def before_judging(finished: Path, root: Path) -> Path:
    """A copy of a finished run, in ``root``, without what its judge said: any other may go on, and what was drawn and
    learned stays.
    """
    run = Path(shutil.copytree(finished, root / "run"))
    for name in ("round_00/rank", "round_01/refresh", "round_01/rank", "final"):
        shutil.rmtree(run / name)
    for path in (run / "config.yaml", *run.glob("score/*.json"), *run.glob("score/comparisons_*")):
        path.unlink()
    return run


def command(*arguments: object) -> int:
    """``python -m pipelines.united_finetune ARGUMENTS`` in this process; returns its exit code."""
    try:
        united_finetune.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0


def results(run: Path) -> dict[str, bytes]:
    """Records, tensors and videos of a run: what resumption and processes must not change."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.suffix in (".parquet", ".safetensors", ".mp4") and ".tmp" not in str(path.relative_to(run))
    }

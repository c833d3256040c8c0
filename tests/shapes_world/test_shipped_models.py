"""The weights that ship: small, imperfect where they should be, good where they must be (`benchmarks.judges`)."""

from pathlib import Path

import numpy as np
import pytest

import shapes_world
from generators.loading import load_generator
from pipelines.loop.config import parse
from reward_model.judging.local import Judge
from reward_model.training.refresh import accuracy, read_labelled_pairs
from shapes_world.oracle import oracle_score, overall
from videoduet.config import resolve

MODELS = Path(shapes_world.__file__).parent / "models"
CONFIG, _ = parse([])


def test_all_is_safetensors_and_under_15_mb():
    weights = [path for path in MODELS.rglob("*") if path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".ckpt")]
    assert {path.suffix for path in weights} == {".safetensors"}
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 15e6


def test_the_generator_leaves_room_for_alignment():
    generator = load_generator(resolve(CONFIG.generator.path), sampler=CONFIG.generator.sampler)
    prompts = Path(resolve(CONFIG.prompts.held_out)).read_text().splitlines()
    latents = generator.sample(generator.encode_prompts(prompts), list(range(len(prompts))))
    videos = zip(generator.decode(latents).numpy(), prompts, strict=True)
    scores = [overall(oracle_score(frames, prompt)) for frames, prompt in videos]
    assert 0.25 < np.mean(scores) < 0.8
    assert generator.settings.steps == 4
    assert generator.denoiser.config.time_cond_proj_dim is not None


def test_the_judge_judges_rendered_clips():
    judge = Judge.from_pretrained(resolve(CONFIG.judge.path))
    result = accuracy(judge, read_labelled_pairs(resolve(CONFIG.refresh.held_out_data)))
    assert result["decided_accuracy"] >= 0.75
    assert result["abstention"] <= 0.4
    assert 0.45 <= result["first_position_rate"] <= 0.55


@pytest.mark.parametrize("pairs", [40, pytest.param(None, marks=pytest.mark.slow)])
def test_the_second_judge_sees_better_than_chance(pairs):
    judge = Judge.from_pretrained(resolve(CONFIG.judge.second_path))
    result = accuracy(judge, read_labelled_pairs(resolve(CONFIG.refresh.held_out_data))[:pairs])
    assert result["accuracy"] > 0.55

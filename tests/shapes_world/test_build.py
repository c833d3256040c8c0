"""The rebuild of everything that ships, with a few steps each: the code that runs is the code that made the weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generators.loading import load_generator
from reward_model.judging.local import Judge
from reward_model.training.config import GRPOTraining
from reward_model.training.refresh import read_labelled_pairs
from shapes_world.build import Build, build_all
from shapes_world.build_base import BaseBuild
from shapes_world.build_generator import GeneratorBuild
from shapes_world.build_judge import JudgeBuild
from videoduet.errors import InputError

TINY = Build(
    generator=GeneratorBuild(
        clips=16,
        autoencoder_steps=2,
        image_steps=2,
        video_steps=2,
        careless_steps=2,
        distillation_steps=2,
        batch_size=4,
        base=BaseBuild(rounds=2, clips=2, settle_steps=1, cycles=2, confuse_steps=1, batch_size=2, scenes=2),
    ),
    judge=JudgeBuild(pairs=8, describe_steps=2, compare_steps=3, batch_size=4),
    second_compare_steps=2,
    grpo=GRPOTraining(steps=1, pairs_per_step=1, num_generations=2),
    grpo_pairs=2,
    original_pairs=3,
    held_out_pairs=2,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("build")
    build_all(TINY, output)
    return output


def test_the_models_load_and_run(built):
    generator = load_generator(built / "generator", sampler={"num_frames": 8})
    latents = generator.sample(generator.encode_prompts(["a red circle moving left fast on a black background"]), [0])
    assert generator.decode(latents).shape == (1, 8, 32, 32, 3)
    pairs = read_labelled_pairs(built / "judge_data" / "held_out.jsonl")
    ids = set()
    for name in ("judge", "second_judge"):
        judge = Judge.from_pretrained(built / name)
        assert len(list(judge.compare([pair.pair for pair in pairs]))) == 2
        ids.add(judge.judge_id)
    assert len(ids) == 2, "the second judge is another judge"


def test_prompt_lists_are_disjoint(built):
    train, held_out = (set((built / name).read_text().splitlines()) for name in ("prompts.txt", "held_out_prompts.txt"))
    assert len(train) == 64
    assert len(held_out) == 64
    assert not train & held_out


def test_a_build_goes_on_where_it_stopped(built):
    before = (built / "judge" / "model.safetensors").stat().st_mtime_ns
    rows = (built / "judge_data" / "train.jsonl").read_text()
    build_all(TINY, built)
    assert (built / "judge" / "model.safetensors").stat().st_mtime_ns == before
    assert (built / "judge_data" / "train.jsonl").read_text() == rows
    assert {json.loads(row)["preferred"] for row in rows.splitlines()} <= {"first", "second"}


def test_a_build_with_other_settings_is_refused(built):
    with pytest.raises(InputError, match="other settings"):
        build_all(replace(TINY, grpo_pairs=3), built)


@pytest.mark.slow
def test_parts_built_side_by_side_are_the_same(built):
    weights = built / "generator" / "unet" / "diffusion_pytorch_model.safetensors"
    before = load_file(weights)
    shutil.rmtree(built / "generator")
    shutil.rmtree(built / "second_judge")
    build_all(TINY, built, jobs=2)
    assert (built / "second_judge" / "model.safetensors").exists()
    for name, value in load_file(weights).items():
        torch.testing.assert_close(value, before[name], atol=2e-3, rtol=2e-2, msg=name)

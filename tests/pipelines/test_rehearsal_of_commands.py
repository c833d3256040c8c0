"""``--rehearse`` of the commands beside the loop: whole setups go through, broken ones are named before the hours are
spent, and nothing is left behind.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from small_loop import MODELS

from alignment.training.config import AlignConfig, PreferenceTrainingConfig
from evaluation.vbench.config import VBenchEvaluationConfig
from generators.loading import load_generator
from pipelines import evaluate_vbench as vbench_command
from pipelines import train_generator as generator_command
from pipelines import train_reward_model as judge_command
from pipelines.loop.rehearsal import checks, evaluate_vbench, steps, train_generator, train_reward_model
from pipelines.loop.rehearsal.steps import Rehearsal
from reward_model.judging.loading import load_model
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig
from shapes_world import all_scenes
from videoduet.errors import InputError
from videoduet.video import write_video

sys.path += [str(Path(__file__).parents[1] / room) for room in ("generators", "reward_model")]
from miniature import write_miniature
from small_judge import write_clips
from tiny_families import FAMILIES, make

REHEARSE = {
    PreferenceTrainingConfig: train_generator.rehearse,
    JudgeTrainingConfig: train_reward_model.rehearse,
    VBenchEvaluationConfig: evaluate_vbench.rehearse,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path, request):
    """No process is killed but in tests that say so; VBench's suite is there, and nothing that scores."""
    rows = [{"prompt_en": scene.prompt, "dimension": ["temporal_flickering"]} for scene in all_scenes()[::100][:3]]
    package = tmp_path / "environments" / "standard" / "lib" / "python3.11" / "site-packages" / "vbench"
    package.mkdir(parents=True)
    (package / "VBench_full_info.json").write_text(json.dumps(rows))
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "environments"))
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    if "kill" not in request.node.name:
        monkeypatch.setattr(steps, "killed", lambda *_: False)


@pytest.fixture
def pairs(tmp_path) -> Path:
    rows, rng = [], np.random.default_rng(0)
    for number, scene in enumerate(all_scenes()[::100][:3]):
        names = [f"clips/{number}_{side}.mp4" for side in ("good", "bad")]
        for name in names:
            write_video(tmp_path / name, rng.integers(0, 256, (2, 32, 32, 3), np.uint8), 8)
        rows.append({"caption": scene.prompt, "chosen": names[0], "rejected": names[1]})
    rows.append({**rows[0], "rejected": "clips/none.mp4"})
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    return tmp_path / "pairs.json"


@pytest.fixture
def generator_training(tmp_path, pairs, shipped_generator) -> PreferenceTrainingConfig:
    align = AlignConfig(batch_size=4, micro_batch=2, lora_rank=2, held_out=0.34, epochs=2)
    return PreferenceTrainingConfig(
        generator=str(shipped_generator), data=str(pairs), output=str(tmp_path / "out"), sampler={"num_frames": 2},
        align=align,
    )  # fmt: skip


@pytest.fixture
def judge_training(tmp_path) -> JudgeTrainingConfig:
    write_clips(tmp_path)
    clips = [tmp_path / f"{name}.mp4" for name in ("red", "green", "blue")]
    folder = write_miniature("vision_reward_pairs", tmp_path / "data", clips)
    training = GRPOTraining(steps=60, pairs_per_step=2, num_generations=2, lora_rank=2, micro_batch=4)
    return JudgeTrainingConfig(
        model=str(MODELS / "judge"), data=[DataConfig(name="vision_reward_pairs", folder=str(folder), split="all")],
        output=str(tmp_path / "out"), training=training, max_new_tokens=8, hard_pairs=True,
    )  # fmt: skip


@pytest.fixture
def evaluation(tmp_path, shipped_generator) -> VBenchEvaluationConfig:
    return VBenchEvaluationConfig(
        generator=str(shipped_generator), output=str(tmp_path / "out"), batch_size=3, videos_per_prompt=2,
        sampler={"steps": 1, "num_frames": 4}, dimensions=["temporal_flickering"],
    )  # fmt: skip


def rehearsed(config) -> Rehearsal:
    """The rehearsal of ``config``; whatever comes of it, nothing is left behind."""
    root = Path(config.output).parent
    before = sorted(path.name for path in root.iterdir())
    found = REHEARSE[type(config)](config)
    assert sorted(path.name for path in root.iterdir()) == before
    assert not any("please report" in problem for problem in found.problems), found.problems
    return found


def told(found: Rehearsal) -> dict[str, str]:
    return {step.name: step.told for step in found.steps}


@pytest.mark.slow
def test_preferences_are_trained_on_after_a_kill(generator_training):
    found = rehearsed(generator_training)
    assert found.problems == []
    assert told(found)["reading the preferences"].startswith("4 pairs, 1 of which cannot be used")
    assert "unet float32 cpu, no key missing, none unexpected" in told(found)["loading the generator"]
    assert told(found)["encoding"].startswith("4 videos") and "stopped at" in told(found)["a kill in training"]
    assert "of 3 steps of 2 draws each" in told(found)["training"]
    assert not told(found)["training"].startswith("3"), "it went on from the checkpoint"
    assert "hours (encoding" in " ".join(found.whole_run) and all(step.peak > 0 for step in found.steps)


@pytest.mark.slow
def test_a_judge_is_trained_after_a_kill(judge_training):
    found = rehearsed(judge_training)
    assert found.problems == []
    assert "7 items" in told(found)["reading the data"] and "judge float32 cpu" in told(found)["loading the judge"]
    assert "of 2 are hard" in told(found)["looking for hard pairs"]
    assert "stopped at" in told(found)["a kill in training"] and "pass of 4 rollouts" in told(found)["training"]
    assert "60 steps" in found.whole_run[0] and "GB" in found.whole_run[-1]


@pytest.mark.slow
def test_an_evaluation_is_drawn_after_a_kill(evaluation):
    found = rehearsed(evaluation)
    assert [problem for problem in found.problems if "could be scored" not in problem] == []
    assert "stopped once" in told(found)["a kill in drawing"]
    assert told(found)["drawing a whole batch"].startswith("3 videos of 4 x 32 x 32")
    assert "75 videos are wanted" in told(found)["reading the suite"] and "Drawing 75 videos" in found.whole_run[0]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["videocrafter2", "wan"])
def test_stand_ins_of_families(tmp_path, generator_training, evaluation, family):
    path, sampler = str(make(family, tmp_path)), {**FAMILIES[family][1], "fps": 8}
    for number in range(3):
        for seed, side in enumerate(("good", "bad")):
            pixels = np.random.default_rng(2 * number + seed).integers(0, 256, (9, 32, 32, 3), np.uint8)
            write_video(tmp_path / f"clips/{number}_{side}.mp4", pixels, 8)
    assert rehearsed(replace(generator_training, generator=path, sampler=sampler)).problems == []
    found = rehearsed(replace(evaluation, generator=path, sampler=sampler))
    assert [problem for problem in found.problems if "could be scored" not in problem] == []


def test_a_folder_of_videos_is_scored_without_a_generator(evaluation, pairs, monkeypatch):
    monkeypatch.setattr(evaluate_vbench, "unscorable", lambda *_: None)
    found = rehearsed(replace(evaluation, generator=None, videos=str(pairs.parent / "clips")))
    assert told(found)["reading the videos"] == "6 videos"
    # Nothing here scores, though a first look said so.
    assert any("temporal_flickering is not scored: VBench's environment" in problem for problem in found.problems)


@pytest.mark.slow
def test_a_round_of_a_run_is_rehearsed(tmp_path, generator_training, finished):
    sampler = finished.config.generator.sampler
    found = rehearsed(replace(generator_training, data=str(finished.root / "round_00"), sampler=sampler))
    assert found.problems == [] and "pairs of a round" in told(found)["reading the preferences"]
    assert told(found)["encoding"] == "nothing to encode"


def without_a_shard(folder: Path, target: Path, part: str) -> str:
    shutil.copytree(folder, target)
    next(target.glob(f"{part}/*.safetensors")).unlink()
    return str(target)


@pytest.mark.parametrize("family", ["t2v_turbo", "wan"])
def test_a_missing_shard_of_a_generator(tmp_path, generator_training, evaluation, shipped_generator, family):
    whole = shipped_generator if family == "t2v_turbo" else make("wan", tmp_path)
    part = "unet" if family == "t2v_turbo" else "transformer"
    path = without_a_shard(whole, tmp_path / "broken", part)
    for config in (generator_training, evaluation):
        problems = rehearsed(replace(config, generator=path)).problems
        assert any(problem.startswith(f"loading the generator: Generator {path}") for problem in problems), problems


def test_a_wrong_family(tmp_path, generator_training, judge_training):
    folder = Path(shutil.copytree(MODELS / "judge", tmp_path / "judge"))
    kept = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**kept, "model_type": "llava"}))
    assert "is a llava; give one of qwen2_5_vl" in rehearsed(replace(judge_training, model=str(folder))).problems[0]
    found = rehearsed(replace(generator_training, generator=str(MODELS / "judge")))
    assert "is no diffusers directory" in found.problems[0]


def test_a_judge_without_a_shard_or_tokens_for_its_labels(tmp_path, judge_training):
    path = without_a_shard(MODELS / "judge", tmp_path / "broken", ".")
    assert "loading the judge: Judge" in rehearsed(replace(judge_training, model=path)).problems[0]
    folder = Path(shutil.copytree(MODELS / "judge", tmp_path / "judge"))
    kept = json.loads((folder / "judge_prompt.json").read_text())
    (folder / "judge_prompt.json").write_text(json.dumps({**kept, "labels": ["αβγ", "δεζ"]}))
    found = rehearsed(replace(judge_training, model=str(folder)))
    assert "looking for hard pairs:" in found.problems[0] and "are no tokens; choose labels" in found.problems[0]


def test_data_that_are_missing(tmp_path, generator_training, judge_training, evaluation, monkeypatch):
    found = rehearsed(replace(generator_training, data=str(tmp_path / "nowhere.json")))
    assert "is no preference data" in found.problems[0]
    data = [replace(judge_training.data[0], folder=str(tmp_path / "nowhere"))]
    assert str(tmp_path / "nowhere") in rehearsed(replace(judge_training, data=data)).problems[0]
    found = rehearsed(replace(evaluation, generator=None, videos=str(tmp_path / "nowhere")))
    assert any("nowhere does not exist" in problem for problem in found.problems)


def test_an_environment_that_is_missing(evaluation, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "nothing"))
    found = rehearsed(evaluation)
    assert "none of 1 dimensions could be scored" in found.problems[0] and "setup_vbench" in found.problems[0]
    assert any("prompt suite" in problem and "does not exist" in problem for problem in found.problems)
    assert not (tmp_path / "out").exists()


def half(folder: Path) -> str:
    file = folder / "adapter_model.safetensors"
    save_file(dict(sorted(load_file(file).items())[::2]), file)
    return str(folder)


@pytest.fixture
def half_lora(tmp_path, shipped_generator) -> str:
    generator = load_generator(shipped_generator)
    model = get_peft_model(generator.denoiser, LoraConfig(r=2, target_modules=generator.lora_targets))
    model.save_pretrained(tmp_path / "lora")
    return half(tmp_path / "lora")


def test_half_a_lora(evaluation, half_lora):
    assert "loading the generator: Adapter" in rehearsed(replace(evaluation, adapter=half_lora)).problems[-1]


@pytest.mark.slow
def test_half_a_lora_to_go_on_from(tmp_path, generator_training, judge_training, half_lora):
    assert "training: Adapter" in rehearsed(replace(generator_training, adapter=half_lora)).problems[0]
    judge = get_peft_model(load_model(MODELS / "judge"), LoraConfig(r=2, target_modules=r".*language_model.*q_proj"))
    judge.save_pretrained(tmp_path / "judge_lora", save_embedding_layers=False)
    found = rehearsed(replace(judge_training, adapter=half(tmp_path / "judge_lora"), hard_pairs=False))
    assert "cannot be put on" in found.problems[0]


@pytest.mark.parametrize("where", ["/proc/nowhere/out", "file/out"])
def test_a_directory_that_cannot_be_written(tmp_path, generator_training, judge_training, evaluation, where):
    (tmp_path / "file").write_text("")
    output = str(tmp_path / where)
    for config in (generator_training, judge_training, evaluation):
        # Nothing else is looked at here.
        broken = {"model": "nowhere"} if config is judge_training else {"generator": "nowhere"}
        found = REHEARSE[type(config)](replace(config, output=output, **broken))
        assert any("choose another --output" in problem for problem in found.problems), found.problems


def test_an_output_that_another_training_holds(tmp_path, generator_training):
    (tmp_path / "out").mkdir()
    kept = {"generator": generator_training.generator, "data": "other", "schema_version": 1}
    (tmp_path / "out" / "config.yaml").write_text(json.dumps(kept))
    found = rehearsed(replace(generator_training, generator="nowhere"))
    assert any("was trained with another generator" in problem for problem in found.problems)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.yaml"]


def test_no_gpu_where_one_is_needed(tmp_path, generator_training, evaluation, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for config in (generator_training, evaluation):
        path = str(tmp_path / "t2v_turbo")
        said = " ".join(rehearsed(replace(config, generator=path, dtype="bfloat16")).problems)
        assert "dtype is bfloat16, which is made for a GPU" in said and "billion weights, which need a GPU" in said


def test_no_space(tmp_path):
    assert "choose another --output" in (checks.no_room("latents", 2e9, tmp_path / "out", "--output", free=10**9) or "")
    assert checks.no_room("latents", 1e6, tmp_path / "out", "--output", free=10**9) is None


def test_memory_that_runs_out_names_what_to_lower(generator_training, judge_training, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train_generator, "train_on_preferences", full)
    assert "align.gradient_checkpointing true" in rehearsed(generator_training).problems[0]
    monkeypatch.setattr(train_reward_model, "train_stage", full)
    assert "training.micro_batch" in rehearsed(replace(judge_training, hard_pairs=False)).problems[0]


def test_a_rehearsal_is_one_process(generator_training, judge_training, evaluation, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for config in (generator_training, judge_training, evaluation):
        with pytest.raises(InputError, match="not with a launcher"):
            rehearsed(config)


def test_a_tracker_that_is_not_installed(generator_training, monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    align = replace(generator_training.align, tracker="wandb")
    found = rehearsed(replace(generator_training, generator="nowhere", align=align))
    assert "align.tracker is 'wandb'; pip install wandb, or give 'none'." in found.problems


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (generator_command, ["--generator", "nowhere", "--data", "nowhere"]),
        (judge_command, ["--model", "nowhere", '--data=[{"name": "lsvq", "folder": "nowhere"}]']),
        (vbench_command, ["--videos", "nowhere"]),
    ],
)
def test_the_commands_end_with_a_failure_where_something_would_fail(command, options, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main([*options, "--output", str(tmp_path / "out"), "--rehearse"])
    said = " ".join(capsys.readouterr().err.split())
    assert stopped.value.code == 1 and "1. " in said and "would fail later" in said and "nowhere" in said
    assert not (tmp_path / "out").exists()

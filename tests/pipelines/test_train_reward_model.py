"""The command through the stages on miniature data sets: it trains, resumes, merges, and refuses what it should."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parents[1] / "reward_model"))

from miniature import write_miniature
from small_judge import write_clips
from small_loop import labelled_data
from small_loop import recipe as recipe_of_a_loop
from transformers import AutoModelForImageTextToText, AutoProcessor

import shapes_world
from pipelines.train_reward_model import parse, train
from reward_model.judging.local import Judge
from reward_model.training.config import DataConfig, GRPOTraining, JudgeTrainingConfig, RewardConfig
from reward_model.training.stage import cost, gather, hard_pairs
from videoduet.errors import InputError
from videoduet.store import read_json

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs" / "reward_model").glob("*.yaml"))
JUDGE = Path(shapes_world.__file__).parent / "models" / "judge"
SMALL = GRPOTraining(steps=1, pairs_per_step=2, num_generations=2, lora_rank=2, micro_batch=4, checkpoint_steps=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    directory = tmp_path_factory.mktemp("clips")
    write_clips(directory)
    return [directory / f"{name}.mp4" for name in ("red", "green", "blue")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, clips) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    names = ("koniq_10k", "lsvq", "lgvq", "vision_reward_pairs")
    return {name: write_miniature(name, root / name, clips) for name in names}


def config(folders, output: Path, *names: str, **options) -> JudgeTrainingConfig:
    where = {"vision_reward_questions": "vision_reward_pairs"}
    splits = {"koniq_10k": "train", "lsvq": "train"}
    data = [
        DataConfig(name=name, folder=str(folders[where.get(name, name)]), split=splits.get(name, "all"))
        for name in names
    ]
    defaults = {"model": str(JUDGE), "training": SMALL, "max_new_tokens": 8}
    return JudgeTrainingConfig(**{**defaults, "data": data, "output": str(output), **options})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_read_and_say_what_the_papers_say(recipe):
    read = parse(["--config", str(recipe)])
    thinker = recipe.stem == "vqathinker"
    assert read.training.num_generations == (4 if thinker else 8)
    assert read.training.kl_weight == (0.04 if thinker else 0.001)
    assert read.training.learning_rate == 1e-6 and read.training.format_weight == 1.0
    assert read.rewards.variant == "paper"
    if thinker:
        assert read.rewards.columns == ("accuracy", "format", "ranking", "temporal") and read.scale == (1, 5)
        assert read.training.pairs_per_step * read.training.num_generations == 64
    elif recipe.stem.startswith("stage2"):
        assert read.rewards.length and (read.rewards.l_min, read.rewards.l_max) == (320, 512)
        assert read.rewards.temporal == ("none" if "preference" in recipe.stem else "modeling")
    switched_off = parse(["--config", str(recipe), "--rewards.temporal", "none", "--rewards.length", "false"])
    assert set(switched_off.rewards.columns) <= {"accuracy", "format", "ranking"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_come_in_two_sizes(recipe):
    """All weights at the papers' rate on eight GPUs, and a LoRA at a LoRA's rate on one; else they are the same."""
    large, small = (parse(["--config", str(path)]) for path in (recipe, recipe.parent / "one_gpu" / recipe.name))
    assert (large.training.parameters, large.training.learning_rate) == ("all", 1e-6)
    assert (small.training.parameters, small.training.learning_rate) == ("lora", 1e-5)
    assert small.training.lora_rank == 64 and large.training.epochs == small.training.epochs == 3
    same = ("pairs_per_step", "passes", "num_generations", "kl_weight", "temperature", "top_p", "top_k", "clip")
    assert [getattr(large.training, name) for name in same] == [getattr(small.training, name) for name in same]
    assert (large.scale, large.rewards, large.max_pixels) == (small.scale, small.rewards, small.max_pixels)
    # A LoRA goes on from an adapter: in bfloat16 a merged model would not be what was learned.
    assert small.model.endswith("adapter") == large.model.endswith("model")


def test_vqathinkers_batch_by_its_text_and_by_its_script():
    script, text = (parse(["--config", str(ROOT / "configs" / "reward_model" / name)]) for name in
                    ("vqathinker.yaml", "variants/vqathinker_64_videos.yaml"))  # fmt: skip
    assert (script.training.pairs_per_step, script.training.items_per_step) == (16, 32)
    assert (text.training.pairs_per_step, text.training.items_per_step) == (64, 64)
    for read in (script, text):
        training = read.training
        assert (training.temperature, training.top_p, training.top_k, training.clip) == (0.9, 1.0, 50, 0.2)
    assert script.training.for_items(28056).steps == 2631


def test_a_recipe_of_all_kinds_of_items(folders, tmp_path, capsys):
    """Images, several dimensions, pairs and questions, in one mixture."""
    names = ("koniq_10k", "lgvq", "vision_reward_pairs", "vision_reward_questions")
    rewards = RewardConfig(temporal="modeling", length=True)
    asked = config(folders, tmp_path, *names, rewards=rewards, merge=True,
                   training=replace(SMALL, pairs_per_step=4))  # fmt: skip
    result = train(asked)
    assert result == tmp_path / "model"
    AutoModelForImageTextToText.from_pretrained(result)
    assert Judge.from_pretrained(result, device="cpu").prompt.max_new_tokens == 8
    assert [len(row["missing"]) for row in read_json(tmp_path / "data.json")] == [0] * 4
    assert "3 pairs that people call a tie" in capsys.readouterr().err
    assert train(asked) == result, "done is done"
    with pytest.raises(InputError, match="another"):
        train(replace(asked, seed=1))


def test_hard_pairs_leave_what_the_judge_gets_right(folders, tmp_path):
    asked = config(folders, tmp_path, "vision_reward_pairs", hard_pairs=True, max_new_tokens=None)
    (ingredient,) = gather(asked)
    kept = hard_pairs(asked, ingredient.reading, tmp_path)
    hard = read_json(tmp_path / "hard_pairs" / "VisionRewardDB-Video.json")
    assert [ingredient.reading.items[index] for index in hard] == list(kept.items)
    assert len(kept.items) + kept.left_out["pairs that the judge gets right"] == len(ingredient.reading.items)


def test_videos_that_cannot_be_read_are_left_out_before_any_training(folders, tmp_path, capsys, monkeypatch):
    data = Path(shutil.copytree(folders["lsvq"], tmp_path / "lsvq"))
    videos = sorted(data.rglob("*.mp4"))
    whole = videos[0].read_bytes()
    videos[0].write_bytes(whole[: len(whole) // 2])
    asked = config({"lsvq": data}, tmp_path / "out", "lsvq")
    assert train(asked) == tmp_path / "out" / "adapter"
    told = read_json(tmp_path / "out" / "unreadable.json")
    assert list(told) == [str(videos[0])] and "cannot be read" in told[str(videos[0])]
    said = capsys.readouterr().err
    assert "1 videos cannot be read, and their items are left out" in said and videos[0].name in said
    # A resumed training sees the rows of the first, whatever has happened to the file since.
    videos[0].write_bytes(whole)
    monkeypatch.setattr("reward_model.training.readable.read_video", None)
    assert train(asked) == tmp_path / "out" / "adapter"


def test_a_data_set_of_which_no_video_can_be_read_is_named(folders, tmp_path):
    data = Path(shutil.copytree(folders["lsvq"], tmp_path / "lsvq"))
    for video in data.rglob("*.mp4"):
        video.write_bytes(video.read_bytes()[:999])
    with pytest.raises(InputError, match=r"LSVQ: none of its videos can be read, such as: Video .* cannot be read"):
        train(config({"lsvq": data}, tmp_path / "out", "lsvq"))
    assert not (tmp_path / "out" / "adapter").exists()


def test_plan_counts_what_will_be_generated(folders, tmp_path, capsys):
    asked = config(folders, tmp_path, "lsvq", rewards=RewardConfig(temporal="modeling"), plan=True,
                   training=replace(SMALL, steps=10, num_generations=4))  # fmt: skip
    assert train(asked) is None
    assert not (tmp_path / "adapter").exists()
    counted = cost(asked, gather(asked))
    assert counted == {
        "steps": 10, "items": 20, "rollouts": 120, "of_which_perturbed": 40, "tokens_at_most": 120 * 8,
    }  # fmt: skip
    assert "rollouts: 120" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": []}, "No data"),
        ({"scale": (5.0, 1.0)}, "scale"),
        ({"rewards": RewardConfig(ranking=True), "training": replace(SMALL, pairs_per_step=1)}, "pairs_per_step"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_contradictory_configs_are_refused(folders, tmp_path, options, says):
    with pytest.raises(InputError, match=says) as error:
        config(folders, tmp_path, "lsvq", **options)
    assert error.value.exit_code == 2


def test_wrong_usage_names_the_key(capsys):
    with pytest.raises(SystemExit) as error:
        parse(["--model=m", "--rewards.temporel=none"])
    assert error.value.code == 2 and "temporel" in capsys.readouterr().err


def _stage(recipe: str, model: Path, output: Path, data: list[dict]) -> list[str]:
    """The command line of a stage's recipe, on miniature data and with few and short answers."""
    training = {"steps": 4, "epochs": "null", "pairs_per_step": 2, "passes": 1, "num_generations": 2, "lora_rank": 2,
                "micro_batch": 4, "checkpoint_steps": 1, "parameters": "lora", "vision": "frozen"}  # fmt: skip
    return [
        f"--config={ROOT / 'configs' / 'reward_model' / recipe}.yaml", f"--model={model}", f"--output={output}",
        f"--data={json.dumps(data)}", "--max_new_tokens=72", "--merge=true",
        *(f"--training.{name}={value}" for name, value in training.items()),
    ]  # fmt: skip


def _killed_and_resumed(module: str, arguments: list[str], marks: Callable[[], Sequence[Path]]) -> None:
    """Run a command, kill it when ``marks`` finds its first checkpoint, and run it again to its end."""
    command = [sys.executable, "-m", f"pipelines.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not marks() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    subprocess.run(command, cwd=ROOT, check=True)


def _loads_without_this_project(model: Path, base: Path, adapter: Path) -> None:
    """Plain transformers load the whole model, and plain peft the adapter on its base: the same weights."""
    merged = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    plain = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(plain, adapter).merge_and_unload()
    whole, expected = dict(merged.named_parameters()), dict(tuned.named_parameters())
    assert whole.keys() == expected.keys()
    assert all(torch.allclose(whole[name], weight, atol=1e-6) for name, weight in expected.items())
    AutoProcessor.from_pretrained(model)


@pytest.mark.slow
def test_the_stages_through_their_recipes_survive_a_kill(folders, tmp_path):
    """Each goes on from the one before; killed at its first checkpoint, it ends with the bytes of an undisturbed one.
    Stage 3 is the loop, with the judge of stage 2.
    """
    koniq, lsvq, rewards = (str(folders[name]) for name in ("koniq_10k", "lsvq", "vision_reward_pairs"))
    preference = [{"name": f"vision_reward_{kind}", "folder": rewards, "split": "all", "share": 0.5}
                  for kind in ("pairs", "questions")]  # fmt: skip
    stages = {
        "stage1_image_warmup": [{"name": "koniq_10k", "folder": koniq}],
        "stage2_natural_video": [{"name": "lsvq", "folder": lsvq}],
        "stage2_preference": preference,
        "vqathinker": [{"name": "lsvq", "folder": lsvq}],
    }
    models = {}
    for recipe, data in stages.items():
        start = models.get("stage1_image_warmup", JUDGE)
        output, undisturbed = tmp_path / recipe, tmp_path / f"{recipe}_undisturbed"
        train(parse([*_stage(recipe, start, undisturbed, data), "--merge=false"]))
        _killed_and_resumed("train_reward_model", _stage(recipe, start, output, data),
                            lambda: list(output.glob("checkpoints/checkpoint-*/complete")))  # fmt: skip
        weights = "adapter/adapter_model.safetensors"
        assert (output / weights).read_bytes() == (undisturbed / weights).read_bytes()
        _loads_without_this_project(output / "model", start, output / "adapter")
        models[recipe] = output / "model"
    training = {"steps": 3, "pairs_per_step": 2, "num_generations": 2, "lora_rank": 2, "checkpoint_steps": 1}
    file = recipe_of_a_loop(
        tmp_path,
        generator={"sampler": {"steps": 4, "num_frames": 8}},
        judge={"factory": None, "path": str(models["stage2_preference"])},
        refresh={**labelled_data(tmp_path, 4), "training": training, "tolerance_generated": 1.0,
                 "tolerance_original": 1.0},
    )  # fmt: skip
    refreshed = tmp_path / "run" / "round_01" / "refresh"
    _killed_and_resumed("united_finetune", ["--config", str(file)], lambda: list(refreshed.rglob("*/complete")))
    assert read_json(refreshed / "summary.json")["status"] == "accepted"
    base, final = AutoModelForImageTextToText.from_pretrained(models["stage2_preference"]), tmp_path / "run/final/judge"
    kept, loaded = load_file(final / "adapter_model.safetensors"), PeftModel.from_pretrained(base, final)
    assert all(torch.equal(weight, kept[name]) for name, weight in get_peft_model_state_dict(loaded).items())

"""The command through the stages on miniature data sets: it trains, resumes, merges, and refuses what it should."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "reward_model"))

from miniature import write_miniature
from small_judge import write_clips
from transformers import AutoModelForImageTextToText

import shapes_world
from pipelines.train_reward_model import DataConfig, TrainConfig, cost, gather, parse, train
from reward_model.group_rewards import RewardConfig
from reward_model.judge import Judge
from reward_model.training import GRPOTraining
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


def config(folders, output: Path, *names: str, **options) -> TrainConfig:
    where = {"vision_reward_questions": "vision_reward_pairs"}
    splits = {"koniq_10k": "train", "lsvq": "train"}
    data = [
        DataConfig(name=name, folder=str(folders[where.get(name, name)]), split=splits.get(name, "all"))
        for name in names
    ]
    defaults = {"model": str(JUDGE), "training": SMALL, "max_new_tokens": 8}
    return TrainConfig(**{**defaults, "data": data, "output": str(output), **options})


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
    from pipelines.train_reward_model import hard_pairs

    asked = config(folders, tmp_path, "vision_reward_pairs", hard_pairs=True, max_new_tokens=None)
    (ingredient,) = gather(asked)
    kept = hard_pairs(asked, ingredient.reading, tmp_path)
    hard = read_json(tmp_path / "hard_pairs" / "VisionRewardDB-Video.json")
    assert [ingredient.reading.items[index] for index in hard] == list(kept.items)
    assert len(kept.items) + kept.left_out["pairs that the judge gets right"] == len(ingredient.reading.items)


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


def _write(path: Path, asked: TrainConfig) -> Path:
    from videoduet.run_directory import to_dict

    values = to_dict(asked)
    path.write_text(yaml.safe_dump({item.name: values[item.name] for item in fields(TrainConfig)}))
    return path


@pytest.mark.slow
def test_stages_one_to_two_and_vqathinker_survive_a_kill(folders, tmp_path):
    """Each stage on from the one before, killed at its first checkpoint, ends with the bytes of an undisturbed one."""
    long = replace(SMALL, steps=4)
    stages = {
        "stage1": ("koniq_10k", RewardConfig(), (0.0, 100.0)),
        "stage2": ("lsvq", RewardConfig(temporal="modeling", length=True), (0.0, 100.0)),
        "vqathinker": ("lsvq", RewardConfig(score="bell", ranking=True, temporal="consistency"), (1.0, 5.0)),
    }
    model = str(JUDGE)
    for stage, (name, rewards, scale) in stages.items():
        asked = config(folders, tmp_path / stage, name, rewards=rewards, scale=scale, training=long, merge=True,
                       model=model)  # fmt: skip
        train(replace(asked, output=str(tmp_path / f"{stage}_undisturbed"), merge=False))
        command = [sys.executable, "-m", "pipelines.train_reward_model", "--config",
                   str(_write(tmp_path / f"{stage}.yaml", asked))]  # fmt: skip
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while not list((tmp_path / stage).glob("checkpoints/checkpoint-*/complete")) and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / stage / "adapter").exists()
        subprocess.run(command, cwd=ROOT, check=True)
        weights = "adapter/adapter_model.safetensors"
        undisturbed = tmp_path / f"{stage}_undisturbed" / weights
        assert (tmp_path / stage / weights).read_bytes() == undisturbed.read_bytes()
        model = str(tmp_path / stage / "model")

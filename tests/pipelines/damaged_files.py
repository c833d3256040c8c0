"""Whole files of every kind that the commands take, what reads each, and damage done to them, by a seed."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn

from alignment.preferences.stored import read_preferences
from generators.convert.state_dict import read_checkpoint
from pipelines import train_generator, united_finetune
from pipelines.train_reward_model import parse as parse_judge_training
from reward_model.judging.listed import read_pairs, read_videos
from reward_model.prompts import JudgePrompt, VideoPrompt
from reward_model.training.refresh import read_labelled_pairs
from videoduet.adapters import put_on
from videoduet.prompt_sets import read_prompts
from videoduet.video import read_video, write_video

DATA_SETS = ("lsvq", "konvid_1k", "genai_bench", "vision_reward_pairs", "video_feedback", "finevd", "t2vqa_db")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"
ODD = (None, True, -1, 1e400, "", "\ud800", [], {}, [[]], "null", {"a": {"b": []}})


@dataclass(frozen=True)
class Kind:
    """A whole file of its kind at a path, and what reads it."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], object]


class Small(nn.Module):
    """A model that an adapter is put on in no time."""

    def __init__(self):
        super().__init__()
        self.to_q, self.to_v = nn.Linear(4, 4), nn.Linear(4, 4)


def as_json(value: object) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(value)) and None


def lines(*rows: object) -> Callable[[Path], None]:
    return lambda path: path.write_text("".join(f"{json.dumps(row)}\n" for row in rows)) and None


def text(words: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(words) and None


def parquet(rows: list) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.Table.from_pylist(rows), path)


def adapter(path: Path) -> None:
    """Its weights; the config lies beside, and is whole."""
    model = get_peft_model(Small(), LoraConfig(r=2, target_modules=["to_q", "to_v"]))
    model.save_pretrained(path.parent, save_embedding_layers=False)


def video(path: Path) -> None:
    write_video(path, np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8), 8)


ROW = {"prompt": "a red circle", "first": "a.mp4", "second": "b.mp4", "preferred": "first"}
PAIR = {"caption": "a red circle", "chosen": "a.mp4", "rejected": "b.mp4"}
JUDGE = {
    "system": None,
    "before_first": "1",
    "before_second": "2",
    "question": "{prompt}",
    "labels": ["1", "2"],
    "num_frames": 4,
}
RECIPE = {"generator": {"path": "g", "sampler": {"fps": 8}}, "rounds": 2, "judge": {"path": "j"}, "seed": 1}
TRAINING = {"model": "m", "output": "o", "data": [{"name": "lsvq", "folder": "f"}], "training": {"steps": 3}}
DPO = {"generator": "g", "data": "d", "output": "o", "align": {"beta": 5.0, "epochs": 1}, "seed": 0}
KINDS = [
    Kind("prompts.txt", text("a red circle\na blue square\n"), read_prompts),
    Kind("prompts.csv", text('prompt,other\na red circle,1\n"a blue, square",2\n'), read_prompts),
    Kind("prompts.json", as_json([{"prompt": "a red circle"}, {"prompt": "a blue square"}]), read_prompts),
    Kind("prompts.parquet", parquet([{"prompt": "a"}, {"prompt": "b"}]), read_prompts),
    Kind("pairs.csv", text("first,second,prompt\na.mp4,b.mp4,red\n"), lambda path: read_pairs([], str(path), "")),
    Kind("pairs.jsonl", lines(ROW, ROW), lambda path: read_pairs([], str(path), "")),
    Kind("videos.csv", text("video,prompt\na.mp4,red\n"), lambda path: read_videos([], str(path), "")),
    Kind("labelled.jsonl", lines(ROW, ROW), read_labelled_pairs),
    Kind("preferences.json", as_json([PAIR, PAIR]), lambda path: read_preferences(str(path), path.parent)),
    Kind("preferences.jsonl", lines(PAIR), lambda path: read_preferences(str(path), path.parent)),
    Kind("judge_prompt.json", as_json(JUDGE), JudgePrompt.read),
    Kind("score_prompt.json", as_json({"system": None, "before": "", "question": "?"}), VideoPrompt.read),
    Kind("recipe.yaml", as_json(RECIPE), lambda path: united_finetune.parse(["--config", str(path)])),
    Kind("judge.yaml", as_json(TRAINING), lambda path: parse_judge_training(["--config", str(path)])),
    Kind("dpo.yaml", as_json(DPO), lambda path: read_dpo(path)),
    Kind("adapter_model.safetensors", adapter, lambda path: put_on(Small(), path.parent, "model")),
    Kind("adapter_config.json", adapter, lambda path: put_on(Small(), path.parent, "model")),
    Kind("a.safetensors", lambda path: save_file({"a": torch.ones(8), "b": torch.ones(2)}, path), read_checkpoint),
    Kind("a.ckpt", lambda path: torch.save({"state_dict": {"a": torch.ones(8)}}, path), read_checkpoint),
    Kind("a.mp4", video, read_video),
]


def read_dpo(path: Path) -> object:
    arguments = ["--config", str(path)]
    return train_generator.parse_planned(train_generator.PreferenceTrainingConfig, "x", None, arguments)[0]


def damaged(content: bytes, rng: np.random.Generator, others: list[bytes]) -> bytes:
    """``content``, cut short, overwritten, mistyped, doubled, or something else altogether."""
    at = int(rng.integers(len(content) + 1))
    mistyped = [retyped(content, rng) for _ in range(6)]
    noise = bytes(rng.integers(0, 256, 12, np.uint8))
    ways = [
        content[:at], content[at:], content[:at] + noise + content[at + 12 :], content + content,
        others[int(rng.integers(len(others)))], *mistyped, POINTER, b"", content.decode("latin-1").encode("utf-16"),
        content.replace(b"\n", b"\r"), content[:at] + b"\x00" * 9 + content[at:], b"\xef\xbb\xbf" + content,
    ]  # fmt: skip
    return ways[int(rng.integers(len(ways)))]


def retyped(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON or YAML with one value, somewhere in it, of another type; of other files two bytes in each other's place."""
    try:
        rows = [json.loads(line) for line in content.decode().splitlines()]
    except ValueError:
        one, other = rng.integers(max(1, len(content)), size=2)
        swapped = bytearray(content)
        if swapped:
            swapped[one], swapped[other] = swapped[other], swapped[one]
        return bytes(swapped)
    rows = copy.deepcopy(rows)
    holder, key = rows, int(rng.integers(len(rows)))
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = list(keys)[int(rng.integers(len(keys)))]
    holder[key] = ODD[int(rng.integers(len(ODD)))]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


@cache
def wholes() -> dict[str, bytes]:
    """The content of each kind's whole file."""
    found = {}
    for kind in KINDS:
        with TemporaryDirectory() as folder:
            kind.write(Path(folder) / kind.name)
            found[kind.name] = (Path(folder) / kind.name).read_bytes()
    return found

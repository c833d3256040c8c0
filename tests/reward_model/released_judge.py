"""VQAThinker's judge of small size in the layout of its release (tests/golden/vqathinker_small), and its conversion."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pipelines import convert_judge

GOLDEN = Path(__file__).parents[1] / "golden"
ABOUT = json.loads((GOLDEN / "vqathinker_small.json").read_text())


def released_state() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "vqathinker_small_state_dict.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def release(directory: Path, state: dict[str, torch.Tensor], **changed: object) -> Path:
    """A released directory of two files; small frames need a small window of SlowFast's pooling."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(ABOUT["config"] | {"motion_window": 2} | changed))
    shutil.copy(GOLDEN / "vqathinker_small_tokenizer.json", directory / "tokenizer.json")
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        held = {name: state[name].contiguous() for name in part}
        save_file(held, directory / f"model-0000{number}-of-00002.safetensors")
    return directory


def run(*arguments: object) -> int:
    """How ``pipelines.convert_judge`` ends."""
    try:
        convert_judge.main([*map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0

"""AIGV-Assessor of small size in the layout of its release (tests/golden/aigv_assessor_small)."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).parents[1] / "golden"
ABOUT = json.loads((GOLDEN / "aigv_assessor_small.json").read_text())


def arrays(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"aigv_assessor_small_{name}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def stage1_state() -> dict[str, torch.Tensor]:
    return arrays("stage1_state_dict")


def stage2_state() -> dict[str, torch.Tensor]:
    """All that a checkpoint of stage 2 holds, as PEFT names it."""
    plain, extra = stage1_state(), arrays("stage2_extra")
    state = {name: value for name, value in plain.items() if name.startswith("slowfast_model")}
    for name, _, same in ABOUT["stage2_checkpoint_layout"]["keys"]:
        state[name] = extra[name] if same is None else plain[same]
    return state


def release(directory: Path, state: dict[str, torch.Tensor], **changed: object) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(ABOUT["config"] | changed))
    shutil.copy(GOLDEN / "aigv_assessor_small_tokenizer.json", directory / "tokenizer.json")
    save_file({name: value.contiguous() for name, value in state.items()}, directory / "model.safetensors")
    return directory

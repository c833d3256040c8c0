"""Two processes that share a judge's training, in each way there is, learn what one learns, and resume to the byte."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from share_in_processes import CONFIGS

from reward_model.training.shards import ASKED, launched_sharded
from videoduet.errors import InputError
from videoduet.store import read_json

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "configs" / "accelerate" / "judge_fsdp2.yaml"
FSDP2 = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "29631", "--config_file",
         RECIPE]  # fmt: skip
WAYS = {
    "one": [],
    "ddp": ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29632"],
    "fsdp2": FSDP2,
    "fsdp2, whole after the forward pass": [*FSDP2, "--fsdp_reshard_after_forward", "false"],
}
GIVEN, DRAWN = ([name for name in CONFIGS if name.startswith("drawn") is drawn] for drawn in (False, True))


@pytest.fixture(scope="module")
def runs(small, tmp_path_factory) -> dict[str, Path]:
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    clips, outputs = Path(small.videos["red"].path).parent, {}
    for way, launcher in WAYS.items():
        outputs[way] = tmp_path_factory.mktemp("way")
        command = [sys.executable, *launcher, HERE / "share_in_processes.py", small.path, clips, outputs[way]]
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, (way, done.stderr[-3000:])
    return outputs


def weights(folder: Path) -> Path:
    (path,) = [*folder.glob("adapter/*.safetensors"), *folder.glob("model/*.safetensors")]
    return path


def losses(folder: Path) -> list[tuple[float, ...]]:
    names = ("loss", "grad_norm", "reward", "kl")
    log = read_json(folder / "training.json")["log"]
    return [tuple(row.get(name, 0.0) for name in names) for row in log if "loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("way", [way for way in WAYS if way != "one"])
def test_two_processes_learn_what_one_learns(small, runs, way, name):
    np.testing.assert_allclose(losses(runs["one"] / name), losses(runs[way] / name), rtol=2e-3, atol=1e-5)
    before = load_file(small.path / "model.safetensors")
    one, two = (load_file(weights(runs[each] / name)) for each in ("one", way))
    assert one.keys() == two.keys()
    start = {key: 0 if "lora_B" in key else before.get(key, value) for key, value in one.items()}
    moved, apart = (
        np.sqrt(sum(np.square(this[key] - other[key], dtype=float).sum() for key in one))
        for this, other in ((one, start), (one, two))
    )
    # Where a gradient is nearly nothing, AdamW makes much of its last bits.
    assert 0 < apart < 0.02 * moved or apart == 0
    assert moved > 0
    files = [{path.name for path in weights(runs[each] / name).parent.iterdir()} for each in ("one", way)]
    assert files[0] == files[1]
    for file in weights(runs["one"] / name).parent.glob("*.json"):
        assert (weights(runs[way] / name).parent / file.name).read_text() == file.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("way", WAYS)
def test_stopped_and_resumed_ends_with_the_same_bytes(runs, way, name):
    assert weights(runs[way] / f"{name}, stopped").read_bytes() == weights(runs[way] / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("way", [way for way in WAYS if "fsdp2" in way])
def test_what_is_drawn_does_not_depend_on_shards(runs, way, name):
    """Processes draw answers of different lengths from weights that are whole meanwhile."""
    np.testing.assert_allclose(losses(runs["ddp"] / name), losses(runs[way] / name), rtol=2e-3, atol=1e-5)


def test_shards_are_fsdp2s_and_nobody_elses(monkeypatch):
    monkeypatch.setenv(ASKED, "true")
    with pytest.raises(InputError, match="fsdp_version: 2"), launched_sharded():
        pass
    monkeypatch.setenv("FSDP_VERSION", "2")
    with launched_sharded() as shards:
        assert not shards, "one process has nobody to share with"
        assert ASKED not in os.environ
    assert os.environ[ASKED] == "true"
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(InputError, match="fsdp_offload_params"), launched_sharded():
        pass

"""Two processes that share the training's state, in each way there is, learn what one process learns."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from small_generator import SmallGenerator, preference_data
from test_trainer import CONFIG, log_of, train
from torch import nn

from alignment.training.forward import PolicyForward
from alignment.training.loader import Batch
from alignment.training.parallel import parallelize
from alignment.training.run import AlignRun
from videoduet.errors import InputError

SHARED = replace(CONFIG, batch_size=3, micro_batch=1, anchor_weight=0.1, ema_decay=0.5, checkpoint_steps=1)
"""Three draws for two processes: one has nothing to do in the second pass."""

CONFIGS = {
    "lora": SHARED,
    "all": replace(SHARED, parameters="all", learning_rate=1e-4, gradient_checkpointing=True),
}

RECIPES = Path(__file__).parents[2] / "configs" / "accelerate"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "29618"]
FSDP2 = [*LAUNCH, "--config_file", RECIPES / "fsdp2.yaml"]
WAYS = {
    "replicated": [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29618"],
    "fsdp2": FSDP2,
    "fsdp2, whole after the forward pass": [*FSDP2, "--fsdp_reshard_after_forward", "false"],
    "zero2": [*LAUNCH, "--config_file", RECIPES / "zero2.yaml"],
}

TWO_PROCESSES = """
import sys
sys.path[:0] = {folders!r}
from pathlib import Path
from small_generator import SmallGenerator, preference_data
from test_parallel import CONFIGS, train_poisoned
from test_trainer import train

data = preference_data(Path({run_dir!r}))

def stop(metrics):
    if metrics["step"] == 2:
        raise KeyboardInterrupt

for name, config in CONFIGS.items():
    train(data, SmallGenerator(), name, config)
    try:
        train(data, SmallGenerator(), f"{{name}}_resumed", config, on_step=stop)
    except KeyboardInterrupt:
        pass
    train(data, SmallGenerator(), f"{{name}}_resumed", config)
train_poisoned(data)
"""


def train_poisoned(data: SimpleNamespace) -> None:
    """A training whose second step is not finite."""
    original, original_step, steps = PolicyForward.predict, AlignRun.step, []

    def step(run: AlignRun, index: int) -> dict:
        steps.append(index)
        return original_step(run, index)

    def predict(forward: PolicyForward, batch: Batch) -> torch.Tensor:
        poisoned = torch.is_grad_enabled() and steps[-1] == 1
        return original(forward, batch) * (float("nan") if poisoned else 1)

    with patch.object(PolicyForward, "predict", predict), patch.object(AlignRun, "step", step):
        train(data, SmallGenerator(), "poisoned", SHARED)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """What one process makes of it."""
    data = preference_data(tmp_path_factory.mktemp("alone"))
    for name, config in CONFIGS.items():
        train(data, SmallGenerator(), name, config)
    train_poisoned(data)
    return data.run_dir


def weights(folder: Path) -> Path:
    (path,) = [*folder.glob("adapter/*.safetensors"), *folder.glob("denoiser/*.safetensors")]
    return path


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_that_share_equal_one(tmp_path, alone, way):
    if way == "zero2" and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed")
    here, script = Path(__file__), tmp_path / "script.py"
    script.write_text(TWO_PROCESSES.format(folders=[str(here.parents[2]), str(here.parent)], run_dir=str(tmp_path)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run([*WAYS[way], script], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]

    before = dict(SmallGenerator().denoiser.named_parameters())
    assert [line["skipped"] for line in log_of(tmp_path / "poisoned")] == [False, True, False, False]
    for name in (*CONFIGS, "poisoned"):
        for one, two in zip(log_of(alone / name), log_of(tmp_path / name), strict=True):
            for metric in ("loss", "grad_norm", "margin", "prediction_gradient"):
                if not one["skipped"]:
                    assert two[metric] == pytest.approx(one[metric], rel=2e-3, abs=1e-7), (name, metric)
    for name in CONFIGS:
        assert weights(tmp_path / f"{name}_resumed").read_bytes() == weights(tmp_path / name).read_bytes()
        one, two = load_file(weights(alone / name)), load_file(weights(tmp_path / name))
        assert one.keys() == two.keys()
        moved = {key: value - (before[key].detach() if key in before else 0) for key, value in one.items()}
        apart = sum((one[key] - two[key]).square().sum() for key in one).sqrt()
        # Where a gradient is nearly nothing, AdamW makes much of its last bits.
        assert apart < 0.02 * sum(value.square().sum() for value in moved.values()).sqrt(), name
        config_files = [sorted(path.name for path in weights(run / name).parent.iterdir()) for run in (alone, tmp_path)]
        assert config_files[0] == config_files[1]
        for file in weights(alone / name).parent.glob("*.json"):
            assert (tmp_path / name / file.parent.name / file.name).read_text() == file.read_text()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version: 2"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "stage 2, not 3"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params"),
    ],
)
def test_other_ways_of_sharing_are_refused(monkeypatch, variables, reason):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=reason):
        parallelize(nn.Linear(2, 2), CONFIG, None)


def test_a_process_that_is_alone_shares_nothing(monkeypatch):
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}.items():
        monkeypatch.setenv(name, value)
    module = nn.Linear(2, 2)
    shared = parallelize(module, CONFIG, None)
    shared.backward(module(torch.ones(1, 2)).sum(), last=True)
    assert shared.update(healthy=True) > 0 and shared.whole_policy() is module


def test_a_checkpoint_of_another_way_is_refused():
    shared = parallelize(nn.Linear(2, 2), CONFIG, None)
    with pytest.raises(InputError, match="zero2.yaml"):
        shared.restore({}, {"zero.exp_avg": torch.zeros(3)})

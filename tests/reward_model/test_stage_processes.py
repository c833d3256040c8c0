"""Two processes give the rewards and advantages that one gives, and learn the same from them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from stage_in_processes import REWARDS, TRAINING

HERE = Path(__file__).parent
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def runs(small, tmp_path_factory) -> list[Path]:
    outputs = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    clips = Path(small.videos["red"].path).parent
    for output, launcher in zip(outputs, ([], TORCHRUN), strict=True):
        command = [sys.executable, *launcher, HERE / "stage_in_processes.py", small.path, clips, output]
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("name", REWARDS)
def test_two_processes_reward_as_one(runs, name):
    """Also where a group is cut between them, and where a reward compares the groups of the whole batch."""
    one, two = (json.loads((run / f"{name}.json").read_text()) for run in runs)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert (one["micro_batch"], two["micro_batch"]) == ((4, 3) if name == "shrunk" else (12, 6))
    assert one["columns"] == two["columns"] == list(REWARDS[name].columns)
    assert len(one["steps"]) == len(two["steps"]) == TRAINING.steps
    for alone, together in zip(one["steps"], two["steps"], strict=True):
        assert alone["completions"] == together["completions"]
        rewards = np.array(alone["rewards"])
        assert rewards.shape == (12, len(one["columns"]))
        np.testing.assert_array_equal(rewards, together["rewards"])
        np.testing.assert_allclose(alone["advantages"], together["advantages"], atol=1e-6)
        assert np.ptp(rewards[:, 0]) > 0 and np.ptp(alone["advantages"]) > 1
        given = rewards[:, one["columns"].index("temporal")]
        assert np.isfinite(given).all()
    bonus = np.array([np.array(step["rewards"])[:, one["columns"].index("temporal")] for step in one["steps"]])
    assert np.ptp(bonus) > 0, "some groups earn it and others do not"


@pytest.mark.slow
@pytest.mark.parametrize("name", REWARDS)
def test_two_processes_learn_what_one_learns(runs, name):
    one, two = (load_file(run / name / "adapter" / "adapter_model.safetensors") for run in runs)
    assert one.keys() == two.keys()
    learnt, other = (np.concatenate([run[key].ravel() for key in sorted(run) if "lora_B" in key]) for run in (one, two))
    # Where a gradient is nearly nothing, AdamW makes much of its last bits.
    assert np.linalg.norm(learnt) > 0.01
    assert np.linalg.norm(learnt - other) < 0.02 * np.linalg.norm(learnt)

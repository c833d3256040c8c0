"""Two processes that share an InternVL's training, with a motion token, learn what one learns."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from internvl_in_processes import CONFIGS
from small_internvl import write_moving

from videoduet.store import read_json

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "configs" / "accelerate" / "judge_fsdp2.yaml"
WAYS = {
    "one": [],
    "ddp": ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29642"],
    "fsdp2": ["-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "29641",
              "--config_file", RECIPE],
}  # fmt: skip


def losses(folder: Path) -> list[tuple[float, ...]]:
    log = read_json(folder / "training.json")["log"]
    return [tuple(row.get(name, 0.0) for name in ("loss", "grad_norm", "reward", "kl")) for row in log if "loss" in row]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(small, tmp_path):
    write_moving(tmp_path / "judge")
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    clips = Path(small.videos["red"].path).parent
    for way, launcher in WAYS.items():
        script = [HERE / "internvl_in_processes.py", tmp_path / "judge", clips, tmp_path / way]
        command = list(map(str, [sys.executable, *launcher, *script]))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, (way, done.stderr[-3000:])
    for name in CONFIGS:
        alone = losses(tmp_path / "one" / name)
        assert len(alone) == 3 and any(row[1] > 0 for row in alone)
        for way in ("ddp", "fsdp2"):
            np.testing.assert_allclose(losses(tmp_path / way / name), alone, rtol=2e-3, atol=1e-5)

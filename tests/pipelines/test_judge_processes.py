"""The judge's command in processes of its own: several of them, and one that is killed, give what one gives."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shapes_world import all_scenes
from shapes_world.world import render
from videoduet.video import write_video

ROOT = Path(__file__).parent.parent.parent
VIDEOS = 18  # 153 pairs: more than a shard
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Path:
    folder, scenes = tmp_path_factory.mktemp("batch"), all_scenes()[::17][:VIDEOS]
    for number, scene in enumerate(scenes):
        write_video(folder / f"{number}.mp4", render(scene.prompt, number), 8)
    rows = [f"{a}.mp4,{b}.mp4,{scenes[a].prompt}" for a, b in itertools.combinations(range(VIDEOS), 2)]
    rows.append("gone.mp4,0.mp4,a lost video")  # in the last shard, which is asked again for it
    (folder / "pairs.csv").write_text("\n".join(["first,second,prompt", *rows]))
    return folder / "pairs.csv"


def start(batch: Path, output: Path, *launcher: str) -> subprocess.Popen:
    command = [*launcher, "-m", "pipelines.judge", "compare", "--batch", batch, "--output", output, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process: subprocess.Popen) -> dict:
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    assert err.count("gone.mp4 does not exist") == 1
    return json.loads(out)


@pytest.fixture(scope="module")
def one(batch, tmp_path_factory) -> dict:
    found = finished(start(batch, tmp_path_factory.mktemp("one") / "judged"))
    assert len(found["comparisons"]) == VIDEOS * (VIDEOS - 1) // 2 and len(found["failures"]) == 1
    assert found["statistics"]["decided"] > len(found["comparisons"]) / 4
    return found


@pytest.mark.slow
def test_two_processes_give_what_one_gives(batch, one, tmp_path):
    assert finished(start(batch, tmp_path / "two", *TORCHRUN)) == one
    assert len(list((tmp_path / "two").glob("compare_*.json"))) == 2


@pytest.mark.slow
def test_killed_and_started_again(batch, one, tmp_path):
    process, first = start(batch, tmp_path / "out"), tmp_path / "out" / "compare_00000.json"
    while not first.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    written = first.stat().st_mtime_ns
    assert not (tmp_path / "out" / "compare_00001.json").exists(), "it was killed too late to test anything"
    assert finished(start(batch, tmp_path / "out")) == one
    assert first.stat().st_mtime_ns == written, "nothing is judged again"

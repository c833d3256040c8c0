"""Two processes make the same samples, comparisons and pairs as one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_loop import config, recipe, results

from evaluation.vbench.environment import installed
from pipelines.loop.run import Run
from shapes_world import all_scenes
from videoduet.store import read_json

HERE = Path(__file__).parent
PROMPTS = "".join(scene.prompt + "\n" for scene in all_scenes()[::30][:10])
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def run_python(*arguments: object) -> None:
    paths = [str(HERE.parent.parent), str(HERE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def a_run(root: Path) -> Path:
    root.mkdir()
    (root / "train.txt").write_text(PROMPTS)
    settings = config(root, generator={"videos_per_prompt": 2, "batch_size": 2})
    return Run.start(settings).directory.root


@pytest.mark.slow
def test_two_processes_are_as_good_as_one(tmp_path):
    runs = [a_run(tmp_path / name) for name in ("one", "two")]
    for run, launcher in zip(runs, ([], TORCHRUN), strict=True):
        for phase in ("sample", "rank"):
            run_python(*launcher, "-m", "pipelines.phase", phase, "--run_dir", run, "--round", 0)
    one, two = map(results, runs)
    assert one == two
    shards = [len([name for name in one if f"{kind}_" in name]) for kind in ("samples", "comparisons")]
    assert shards == [3, 2]  # both processes had work
    for phase in ("sample", "rank"):
        done = [read_json(run / "round_00" / phase / "done.json") for run in runs]
        assert done[0] == done[1] and len(done[0]["files"]) > 1


@pytest.mark.slow
def test_the_loop_launches_the_phases_that_its_config_names(tmp_path):
    # With MULTI_CPU accelerate starts one process where there is no MPI.
    accelerate = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_processes": 2, "num_machines": 1,
        "machine_rank": 0, "use_cpu": True, "mixed_precision": "no", "main_process_port": 0,
    }  # fmt: skip
    (tmp_path / "accelerate.yaml").write_text(yaml.safe_dump(accelerate))
    launch = {phase: str(tmp_path / "accelerate.yaml") for phase in ("sample", "rank", "align")}
    for name, phases in (("one", {}), ("two", launch)):
        file = recipe(tmp_path, f"{name}.yaml", run_dir=str(tmp_path / name), rounds=1, launch=phases)
        run_python("-m", "pipelines.united_finetune", "--config", file)
    one, two = (results(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        if name.startswith(("round_00/sample", "round_00/rank")):
            assert one[name] == two[name], name


@pytest.mark.slow
def test_two_processes_draw_the_videos_of_one(tmp_path, shipped_generator):
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    command = ["-m", "pipelines.sample", "--generator", shipped_generator, "--prompts", tmp_path / "prompts.txt"]
    command += ["--sampler", '{"steps": 1, "num_frames": 2}', "--batch_size", 2, "--videos_per_prompt", 2]
    for name, launcher in (("one", []), ("two", TORCHRUN)):
        run_python(*launcher, *command, "--output", tmp_path / name)
    one, two = (read_json(tmp_path / name / "done.json") for name in ("one", "two"))
    assert one == two and len(one["files"]) == 7


@pytest.mark.skipif(installed("standard") is None, reason="no VBench environment (pipelines.setup_vbench)")
@pytest.mark.slow
def test_two_processes_evaluate_as_one(tmp_path, shipped_generator, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    command = ["-m", "pipelines.evaluate_vbench", "--generator", shipped_generator, "--batch_size", 2]
    command += ["--dimensions", "[temporal_flickering]", "--prompts_per_dimension", 3, "--videos_per_prompt", 2]
    command += ["--flickering_videos", 3, "--sampler.steps", 1, "--sampler.num_frames", 4]
    for name, launcher in (("one", []), ("two", TORCHRUN)):
        run_python(*launcher, *command, "--output", tmp_path / name)
    one, two = tmp_path / "one", tmp_path / "two"
    videos = sorted(path.name for path in (one / "videos").iterdir())
    assert len(videos) == 3 * 3 + 1 and (one / "videos" / "videos.csv").exists()
    for path in ("scores_by_video.csv", "results.csv", "results.json", *(f"videos/{name}" for name in videos)):
        assert (one / path).read_bytes() == (two / path).read_bytes(), path
    assert len(list((two / "samples").glob("samples_*.parquet"))) == 2, "both processes had work"

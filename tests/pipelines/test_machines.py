"""Several machines over one directory make the files of one: any number of processes each, any of them killed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from small_loop import config, recipe, results

from pipelines import phase, united_finetune
from pipelines.loop.run import Run
from shapes_world import all_scenes
from videoduet import machines
from videoduet.errors import InputError
from videoduet.machines import ALONE, Machine
from videoduet.store import read_json

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROMPTS = "".join(scene.prompt + "\n" for scene in all_scenes()[::9][:36])
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]), "OMP_NUM_THREADS": "1"}
PHASE = [sys.executable, "-m", "pipelines.phase"]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
# With MULTI_CPU accelerate starts one process where there is no MPI.
GLOO = {
    "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_processes": 2, "num_machines": 1,
    "machine_rank": 0, "use_cpu": True, "mixed_precision": "no", "main_process_port": 0,
}  # fmt: skip


def test_a_place_among_machines_is_read_and_shares_out_everything():
    assert Machine.parse("2/4") == Machine(2, 4) and str(Machine(2, 4)) == "2/4" and Machine.parse("0/1") == ALONE
    for wrong in ("4/4", "1", "-1/2", "a/b", "1/0"):
        with pytest.raises(InputError, match=f"machine is {wrong}; give number/count") as caught:
            Machine.parse(wrong)
        assert caught.value.exit_code == 2
    parts = [range(11)[slice(Machine(number, 3).part()[0], None, 3)] for number in range(3)]
    assert sorted(item for part in parts for item in part) == list(range(11))


@pytest.mark.parametrize("local", [(1, 1, 1), (2, 2), (3, 1, 2)])
def test_machines_may_have_any_number_of_processes(local, monkeypatch):
    taken = []
    for number, count in enumerate(local):
        for index in range(count):
            state = type("State", (), {"process_index": index, "num_processes": count})
            monkeypatch.setattr(machines, "processes", lambda state=state: state)
            start, step = Machine(number, len(local)).part()
            taken += range(29)[start::step]
    assert sorted(taken) == list(range(29))


def test_the_first_waits_until_all_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machines, "SHORTEST", 1.01)
    file = tmp_path / "there"
    ALONE.wait_for([file], "nobody is waited for")
    threading.Timer(0.2, file.touch).start()
    Machine(0, 2).wait_for([tmp_path, file], "sample")
    assert file.exists() and "sample: waiting for 1 files of other machines, such as there" in capsys.readouterr().err


def test_what_is_not_shared_out_is_refused(tmp_path, capsys):
    root = Run.start(config(tmp_path)).directory.root
    with pytest.raises(SystemExit) as stop:
        phase.main(["align", "--run_dir", str(root), "--machine", "1/2"])
    assert stop.value.code == 2 and "align is not shared out: machine 0 of 2 does it" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        united_finetune.main(["--config", str(recipe(tmp_path)), "--from", "align", "--machine", "0/2"])
    assert stop.value.code == 2 and "one machine does that" in " ".join(capsys.readouterr().err.split())


def together(*commands: list[object]) -> None:
    """Run them side by side to their ends."""
    running = [start(command) for command in commands]
    for process in running:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]


def start(command: list[object]) -> subprocess.Popen:
    return subprocess.Popen(
        list(map(str, command)), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def a_run(root: Path) -> Path:
    root.mkdir()
    (root / "train.txt").write_text(PROMPTS)
    return Run.start(config(root, generator={"videos_per_prompt": 2, "batch_size": 2})).directory.root


def sampled_and_ranked(run: Path, *ways: list[object]) -> dict[str, bytes]:
    for name in ("sample", "rank"):
        together(*([*way, name, "--run_dir", run] for way in ways))
    return results(run)


@pytest.fixture(scope="module")
def by_one(tmp_path_factory) -> Path:
    run = a_run(tmp_path_factory.mktemp("one") / "root")
    both = "import sys; from pipelines.phase import do; [do(name, sys.argv[1], 0) for name in ('sample', 'rank')]"
    together([sys.executable, "-c", both, run])
    return run


@pytest.mark.slow
def test_four_processes_of_two_machines_are_as_good_as_one(by_one, tmp_path):
    """Each machine has its own launcher and its own two processes in a group; the groups never meet."""
    (tmp_path / "gloo.yaml").write_text(yaml.safe_dump(GLOO))
    launcher = [*LAUNCH, tmp_path / "gloo.yaml", "-m", "pipelines.phase"]
    run = a_run(tmp_path / "two")
    for name in ("sample", "rank"):
        together(*([*launcher, name, "--run_dir", run, "--machine", f"{number}/2"] for number in range(2)))
    assert results(run) == results(by_one)
    for name in ("sample", "rank"):
        assert read_json(run / "round_00" / name / "done.json") == read_json(by_one / "round_00" / name / "done.json")


@pytest.mark.slow
def test_one_group_over_two_machines_is_as_good_as_one(by_one, tmp_path):
    """accelerate's own way: a launcher on each machine, ranks over all, one port."""
    run, ways = a_run(tmp_path / "two"), []
    for number in range(2):
        over_all = {
            **GLOO, "num_processes": 4, "num_machines": 2, "machine_rank": number, "main_process_ip": "127.0.0.1",
            "main_process_port": 29517, "rdzv_backend": "static", "same_network": True,
        }  # fmt: skip
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(over_all))
        ways.append([*LAUNCH, tmp_path / f"{number}.yaml", "-m", "pipelines.phase"])
    assert sampled_and_ranked(run, *ways) == results(by_one)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sample", "rank"])
def test_a_machine_that_dies_is_made_good_by_the_same_command(by_one, tmp_path, name):
    """Of four machines one is killed, while it draws or before it compares; the others never notice."""
    shutil.copytree(by_one, run := tmp_path / "run")
    for done in ("sample", "rank")[("sample", "rank").index(name) :]:
        shutil.rmtree(run / "round_00" / done)
    folder = run / "round_00" / name
    commands = [[*PHASE, name, "--run_dir", run, "--machine", f"{number}/4"] for number in range(4)]
    doomed = start(commands[2])
    while name == "sample" and doomed.poll() is None and not list(folder.glob("videos/*.mp4")):
        time.sleep(0.005)
    doomed.send_signal(signal.SIGKILL)
    doomed.communicate()
    first, *others = [start(command) for number, command in enumerate(commands) if number != 2]
    for process in others:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]
    assert first.poll() is None and not (folder / "done.json").exists(), "the first waits for the one that died"
    together(commands[2])
    assert first.wait(timeout=60) == 0
    made, expected = results(folder), results(by_one / "round_00" / name)
    assert made == expected and read_json(folder / "done.json") == read_json(by_one / "round_00" / name / "done.json")


FAKE_SRUN = """#!/bin/bash
# Stands in for SLURM's: the command once for each machine of two.
shift
for SLURM_NODEID in 0 1; do SLURM_NODEID=$SLURM_NODEID SLURM_NNODES=2 "$@" & done
wait -n && wait -n
"""


@pytest.mark.slow
def test_the_slurm_recipe_ends_as_one_machine_does(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(FAKE_SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    paths = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    script = ["env", f"PATH={paths}", "bash", ROOT / "docs" / "slurm.sbatch"]
    ends = []
    for name, command in (("one", [sys.executable, "-m", "pipelines.united_finetune"]), ("two", script)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text("".join(PROMPTS.splitlines(keepends=True)[:12]))
        file = recipe(tmp_path / name, generator={"videos_per_prompt": 2, "batch_size": 1})
        together([*command, "--config", file])
        run = tmp_path / name / "run"
        assert (run / "report.html").exists() and (run / "final" / "generator").is_dir()
        ends.append(results(run))
    one, two = ends
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
    assert len(list(run.glob("round_00/sample/samples_*"))) == 6 and len(list(run.glob("*/rank/comparisons_*"))) == 4

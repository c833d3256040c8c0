"""A run that is killed again and again ends with the same records, latents, weights and videos, byte for byte.

``VIDEODUET_KILLS=20 pytest -m slow tests/pipelines/test_kill.py`` kills as often as one likes (default: 4).
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from small_loop import MODELS, labelled_data, recipe, results

KILLS = int(os.environ.get("VIDEODUET_KILLS", "4"))
HERE = Path(__file__).parent


@pytest.fixture
def file(tmp_path) -> Path:
    """Two rounds, with the judge that ships and its refresh where it is built, else with one that reads brightness."""
    align = {"epochs": 3, "max_steps": 6, "checkpoint_steps": 2}
    if not (MODELS / "judge").exists():
        return recipe(tmp_path, align=align)
    training = {"steps": 6, "pairs_per_step": 2, "num_generations": 4, "checkpoint_steps": 2}
    return recipe(
        tmp_path,
        align=align,
        generator={"sampler": {"steps": 4, "num_frames": 8}},
        judge={"factory": None, "path": str(MODELS / "judge")},
        refresh={**labelled_data(tmp_path, 8), "training": training},
    )


def start(file: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)])}
    command = [sys.executable, "-m", "pipelines.united_finetune", "--config", str(file)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(file: Path) -> None:
    assert start(file).wait() == 0


def timetable(run: Path) -> list[tuple[str | None, str | None, float]]:
    """Each phase: the one before it, its own name, its seconds. The last, without a name, follows the score."""
    done = sorted(run.rglob("done.json"), key=lambda path: path.stat().st_mtime_ns)
    names = [None, *(str(path.relative_to(run).parent) for path in done), None]
    times = [path.stat().st_mtime for path in (run / "environment.json", *done, run / "report.html")]
    seconds = [after - before for before, after in pairwise(times)]
    return list(zip(names[:-1], names[1:], seconds, strict=True))


def kill_during(file: Path, run: Path, before: str | None, phase: str | None, delay: float) -> bool:
    """Start the command and kill it ``delay`` seconds after ``before`` is done; whether that met it in ``phase``."""
    launched = time.time_ns()
    process = start(file)

    def under_way() -> bool:
        config = run / "config.yaml"
        if not config.exists() or config.stat().st_mtime_ns < launched:
            return False
        return before is None or (run / before / "done.json").exists()

    while not under_way() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    return killed and (phase is None or not (run / phase / "done.json").exists())


def shares(phases: int, rng: random.Random) -> Counter[int]:
    """How many of the KILLS each phase gets, dealt like cards: as evenly as they go."""
    hands = [rng.sample(range(phases), phases) for _ in range(-(-KILLS // phases))]
    return Counter([phase for hand in hands for phase in hand][:KILLS])


@pytest.mark.slow
def test_killed_runs_end_like_an_undisturbed_one(file, tmp_path):
    run = tmp_path / "run"
    finish(file)
    phases, expected = timetable(run), results(run)
    assert len(phases) == 11 and len(expected) > 50
    # The same path again: some records name files by absolute path.
    run.rename(tmp_path / "undisturbed")
    rng = random.Random(0)
    missing, runs = shares(len(phases), rng), 0
    while missing := +missing:
        assert (runs := runs + 1) <= 10 + KILLS, f"these phases end before a kill meets them: {missing}"
        for index in sorted(missing):
            before, phase, seconds = phases[index]
            # A kill that comes too late (the machine is never twice as fast) counts for nothing, and is tried again.
            missing[index] -= kill_during(file, run, before, phase, rng.random() * seconds)
        finish(file)
        ended = results(run)
        assert ended.keys() == expected.keys()
        assert [name for name in expected if ended[name] != expected[name]] == []
        assert not [path for path in run.rglob(".*.tmp*") if "final" not in path.parts and path.parent != run]
        shutil.rmtree(run)

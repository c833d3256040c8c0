"""Jobs side by side: in their order, and none left behind."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from benchmarks.workers import finish, logged, workers

PARENT = """
import os, time
from benchmarks.workers import workers
if __name__ == "__main__":
    pool = workers(1)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_parent_leaves_no_worker(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:  # fmt: skip
        worker = int(parent.stdout.readline())
        assert worker != parent.pid and alive(worker)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    try:
        while alive(worker) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not alive(worker)
    finally:
        if alive(worker):
            os.kill(worker, signal.SIGKILL)


def test_jobs_wait_for_what_they_follow():
    done = []
    with ThreadPoolExecutor(2) as pool:
        results = finish(
            lambda name, seed: done.append((name, seed)) or f"{name}{seed}",
            [("a", 0), ("a", 1)],
            lambda name, seed: [("b", seed), ("c", seed)] if name == "a" else [],
            pool=pool, total=6, what="jobs",
        )  # fmt: skip
    assert results == {(name, seed): f"{name}{seed}" for name in "abc" for seed in (0, 1)}
    assert len(done) == 6 and all(done.index(("a", seed)) < done.index(("b", seed)) for seed in (0, 1))


def test_an_error_ends_what_waits():
    begun = []

    def job(number):
        begun.append(number)
        if number == 0:
            raise RuntimeError("no luck")
        time.sleep(0.2)

    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="no luck"):
        finish(job, [(number,) for number in range(50)], lambda number: [], pool=pool, total=50, what="jobs")
    assert len(begun) < 10


def test_what_is_printed_is_kept_with_the_error(tmp_path, capsys):
    with pytest.raises(RuntimeError), logged(tmp_path / "a" / "log.txt"):
        print("half way")
        raise RuntimeError("no luck")
    log = (tmp_path / "a" / "log.txt").read_text()
    assert log.startswith("half way") and "RuntimeError: no luck" in log
    assert "half way" not in capsys.readouterr().out


def test_workers_have_one_thread_each():
    with workers(2) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1

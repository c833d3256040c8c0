"""Processes that work side by side, one core each: what a benchmark's many small trainings are fastest in."""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch


def workers(jobs: int) -> ProcessPoolExecutor:
    """``jobs`` processes with one thread each, ended by Ctrl-C at once."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """What is printed is added to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as log, contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
        yield

"""Processes that work side by side, one core each: what a benchmark's many small trainings are fastest in."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from videoduet.progress import track_steps


def workers(jobs: int) -> ProcessPoolExecutor:
    """``jobs`` processes with one thread each, that end with their parent, however that ends."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    # Or a killed benchmark's workers would write into the folders of the one that goes on.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def finish(
    job: Callable[..., Any],
    first: Iterable[tuple],
    after: Callable[..., Iterable[tuple]],
    *,
    pool: Executor,
    total: int,
    what: str,
) -> dict[tuple, Any]:
    """What ``job(*arguments)`` gives for each of ``first`` and, once that is done, for those ``after(*arguments)``.

    ``total`` and ``what`` are for the progress bar. An error is raised as soon as the jobs end that are running then.
    """
    results: dict[tuple, Any] = {}
    running: dict[Future, tuple] = {pool.submit(job, *arguments): arguments for arguments in first}
    with track_steps(what) as on_step:
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                arguments = running.pop(future)
                if future.exception() is not None:
                    pool.shutdown(cancel_futures=True)
                results[arguments] = future.result()
                running |= {pool.submit(job, *following): following for following in after(*arguments)}
                on_step({"step": len(results), "steps": total})
    return results


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """What is printed is added to a file, and the error that ends it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as log, contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
        try:
            yield
        except BaseException:
            traceback.print_exc()
            raise

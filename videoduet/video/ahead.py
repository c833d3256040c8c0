"""Videos are written behind the back of who draws them: by threads, each with a process of its own where that pays.

A video's frames wait in one of a fixed number of places, so memory is bounded however fast they come.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore, Lock, local
from types import TracebackType
from typing import Literal, TypeVar

import numpy as np

from videoduet.processes import cores
from videoduet.store import content_hash
from videoduet.video.apart import WriterProcess, possible
from videoduet.video.writing import write_video

Result = TypeVar("Result")
Means = Literal["in turn", "threads", "processes"]
MOST_WRITERS = 8
"""A core encodes about one video of 16x320x512 a second; no GPU of today draws more than eight."""
PIXELS_APART = 1_000_000
"""Of all frames of a video. From here on encoding takes longer than to start a process once."""


class VideoWriters:
    """Writes videos, each by one of several writers, while its owner goes on.

    To be used as a context. What is left early, as by an error, writes what it has begun and nothing else.
    """

    def __init__(self, waiting: int, *, pixels: int, means: Means | None = None):
        """``waiting`` videos of ``pixels`` pixels (of all frames) may wait beside those that are being written; whoever
        hands over more waits himself.

        ``means`` says what encodes: threads alone, or processes that they command (None: processes where there are
        cores for several, and encoding costs more than to start them); or, for comparisons, the caller 'in turn'.
        """
        self.writers = max(1, min(MOST_WRITERS, cores() - 1))
        if means is None:
            means = "processes" if possible() and self.writers > 1 and pixels >= PIXELS_APART else "threads"
        self.means: Means = means
        self._pool = ThreadPoolExecutor(self.writers, "videos")
        self._places = BoundedSemaphore(self.writers + waiting)
        self._own, self._lock, self._processes = local(), Lock(), list[WriterProcess]()

    def write(self, path: Path, frames: Callable[[], np.ndarray], fps: float) -> Future[str]:
        """Hand a video over; the content hash of its file comes when that is whole, or what went wrong.

        ``frames()``, called by the writer, waits until they are in memory, uint8 (T, H, W, 3).
        """
        if self.means == "in turn":
            done = Future[str]()
            done.set_result(self._written(path, frames, fps))
            return done
        self._places.acquire()
        written = self._pool.submit(self._written, path, frames, fps)
        written.add_done_callback(lambda _: self._places.release())
        return written

    def then(self, work: Callable[[], Result]) -> Future[Result]:
        """Have ``work`` done by a writer, after what was handed over before."""
        return self._pool.submit(work)

    def _written(self, path: Path, frames: Callable[[], np.ndarray], fps: float) -> str:
        if self.means != "processes":
            write_video(path, frames(), fps)
            return content_hash(path)
        process: WriterProcess | None = getattr(self._own, "process", None)
        if process is None:
            process = self._own.process = WriterProcess()
            with self._lock:
                self._processes.append(process)
        return process.write(path, frames(), fps)

    def __enter__(self) -> "VideoWriters":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind: no thread, no process."""
        self._pool.shutdown(cancel_futures=error is not None)
        for process in self._processes:
            process.close()

"""A process that writes videos, which it is handed through shared memory.

It is no child of ``multiprocessing``, which would import the main module again, models' libraries and all. The memory
has no name and the process reads its orders from a pipe whose other end its owner alone holds: whatever becomes of the
owner, a kill included, both are gone at once.
"""

import os
import pickle
import signal
import subprocess
import sys
from mmap import ACCESS_READ, mmap
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np

from videoduet.errors import InputError, in_words
from videoduet.store import content_hash
from videoduet.video.writing import write_video

Order = tuple[Path, tuple[int, ...], float]
"""Where to write, the frames' shape, frames per second."""


def possible() -> bool:
    """Whether this system has memory without a name that a process can be handed."""
    # Python builds for old systems lack the call, some containers refuse it.
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        return False
    try:
        os.close(os.memfd_create("frames"))
    except OSError:
        return False
    return True


class WriterProcess:
    """A process that writes one video at a time; started at once, ready when its libraries are loaded."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise InputError("Writers of their own need Linux; write with threads.")
        self._memory = os.memfd_create("frames")
        self._orders, theirs = Pipe()
        handed = (theirs.fileno(), self._memory)
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from videoduet.video.apart import serve; serve{handed}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdin=subprocess.DEVNULL, pass_fds=handed,
        )  # fmt: skip
        theirs.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def write(self, path: Path, frames: np.ndarray, fps: float) -> str:
        """The content hash of the file that is written from ``frames`` uint8 (T, H, W, 3).

        Raises what went wrong there, and InputError where the process is gone.
        """
        data, done = np.ascontiguousarray(frames).data.cast("B"), 0
        while done < len(data):
            done += os.pwrite(self._memory, data[done:], done)
        try:
            self._orders.send((path, frames.shape, fps))
            answer: str | Exception = self._orders.recv()
        except (EOFError, OSError) as error:
            raise InputError(
                f"Video {path} was not written, as its writer ended with exit code {self._process.wait()}; the same "
                "command goes on, if there is memory for it."
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self._orders.close()
        self._process.wait()
        os.close(self._memory)


def serve(orders: int, memory: int) -> None:
    """Write what is ordered, until the owner of the other end is gone: what the process does. Takes descriptors."""
    # Ctrl-C is for the owner, who goes in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, ordered = Connection(orders), SimpleQueue[Order]()
    Thread(target=_listen, args=(connection, ordered), daemon=True).start()
    while True:
        path, shape, fps = ordered.get()
        try:
            with mmap(memory, int(np.prod(shape)), access=ACCESS_READ) as shared:
                # A copy, since nothing may look into memory that is given back.
                frames = np.frombuffer(shared, np.uint8).reshape(shape).copy()
            write_video(path, frames, fps)
            connection.send(content_hash(path))
        except Exception as error:
            connection.send(_sendable(error))


def _listen(connection: "Connection[str | Exception, Order]", ordered: SimpleQueue[Order]) -> None:
    """Pass orders on. Without an owner the process ends at once, in the middle of a video too: nobody wants it."""
    while True:
        try:
            ordered.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)


def _sendable(error: Exception) -> Exception:
    """The error, or its words where it cannot travel."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(in_words(error))

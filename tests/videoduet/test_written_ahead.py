"""Videos that are written behind the back of who draws them: same files, bounded memory, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from videoduet.errors import InputError
from videoduet.store import content_hash
from videoduet.video import ahead, read_video, write_video
from videoduet.video.ahead import VideoWriters
from videoduet.video.apart import WriterProcess, possible

ROOT = Path(__file__).parents[2]
CLIP = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), np.uint8)


def test_where_no_memory_without_a_name_is_had_threads_write(monkeypatch):
    def refused(name: str) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    assert not possible()
    monkeypatch.delattr(os, "memfd_create")
    assert not possible()


needs_linux = pytest.mark.skipif(not possible(), reason="memory without a name is Linux's")
MEANS = ["in turn", "threads", pytest.param("processes", marks=needs_linux)]


def resident(pid: int, key: str = "VmRSS") -> int:
    """Kilobytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def gone(pid: int) -> bool:
    try:
        return "zombie" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("means", MEANS)
def test_files_and_hashes_are_those_of_write_video(tmp_path, means):
    clips = [CLIP, CLIP[:2, ::-1], np.tile(CLIP, (1, 5, 3, 1))]  # also larger and smaller than the one before
    with VideoWriters(2, pixels=1, means=means) as writers:
        work = [writers.write(tmp_path / f"{i}.mp4", lambda clip=clip: clip, 8) for i, clip in enumerate(clips)]
    for number, clip in enumerate(clips):
        write_video(tmp_path / "expected.mp4", clip, 8)
        assert (tmp_path / f"{number}.mp4").read_bytes() == (tmp_path / "expected.mp4").read_bytes()
        assert work[number].result() == content_hash(tmp_path / "expected.mp4")
    assert all(gone(process.pid) for process in writers._processes)


@pytest.mark.parametrize("means", MEANS[1:])
def test_what_goes_wrong_is_raised_as_where_it_happens(tmp_path, means):
    (tmp_path / "file").write_text("no folder")
    with VideoWriters(2, pixels=1, means=means) as writers:
        work = writers.write(tmp_path / "file" / "a.mp4", lambda: CLIP, 8)
        good = writers.write(tmp_path / "b.mp4", lambda: CLIP, 8)
        with pytest.raises(FileExistsError) as raised:
            work.result()
        assert good.result() == content_hash(tmp_path / "b.mp4")
    with pytest.raises(FileExistsError) as expected:
        write_video(tmp_path / "file" / "a.mp4", CLIP, 8)
    assert str(raised.value) == str(expected.value)


@needs_linux
def test_a_writer_that_is_killed_is_told(tmp_path):
    process = WriterProcess()
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(InputError, match=r"a.mp4 was not written, as its writer ended with exit code -9"):
        process.write(tmp_path / "a.mp4", CLIP, 8)
    process.close()


def test_whoever_hands_over_more_than_there_are_places_waits(tmp_path, monkeypatch):
    """Of 1,000 clips no more are alive at any time than there are places."""
    alive, most = weakref.WeakSet(), 0
    monkeypatch.setattr(ahead, "write_video", lambda path, frames, fps: time.sleep(0.0001))
    monkeypatch.setattr(ahead, "content_hash", lambda path: "hash")

    class Frames:
        def __init__(self):
            alive.add(self)

        def __call__(self):
            return CLIP

    with VideoWriters(3, pixels=1) as writers:
        places = writers.writers + 3
        for number in range(1000):
            writers.write(tmp_path / f"{number}.mp4", Frames(), 8)
            most = max(most, len(alive))
    # One more is let go of a moment after its place is free.
    assert 3 <= most <= places + writers.writers and not alive


def test_what_was_not_begun_is_not_written_after_an_error(tmp_path, monkeypatch):
    begun, go_on = [], threading.Event()
    monkeypatch.setattr(ahead, "cores", lambda: 2)
    monkeypatch.setattr(ahead, "write_video", lambda path, frames, fps: (begun.append(path.stem), go_on.wait(10)))
    monkeypatch.setattr(ahead, "content_hash", lambda path: "hash")
    with pytest.raises(KeyError), VideoWriters(5, pixels=1) as writers:
        work = [writers.write(tmp_path / f"{number}.mp4", lambda: CLIP, 8) for number in range(4)]
        while not begun:
            time.sleep(0.001)
        threading.Timer(0.05, go_on.set).start()
        raise KeyError
    assert begun == ["0"] and work[0].result() == "hash" and all(each.cancelled() for each in work[1:])


@pytest.mark.parametrize(
    ("cores", "pixels", "expected"),
    [(1, 10**7, (1, "threads")), (2, 10**7, (1, "threads")), (16, 8 * 32 * 32, (8, "threads")),
     (4, 16 * 320 * 512, (3, "processes")), (16, 16 * 320 * 512, (8, "processes"))],
)  # fmt: skip
@needs_linux
def test_how_many_write_and_by_what(monkeypatch, cores, pixels, expected):
    monkeypatch.setattr(ahead, "cores", lambda: cores)
    with VideoWriters(1, pixels=pixels) as writers:
        assert (writers.writers, writers.means) == expected


ENDLESS = """
import sys
import numpy as np
from videoduet.video.apart import WriterProcess
process = WriterProcess()
print(process.pid, flush=True)
clip = np.random.default_rng(0).integers(0, 256, (64, 320, 512, 3), np.uint8)
process.write(sys.argv[1], clip, 8)
"""


@needs_linux
def test_a_writer_ends_with_its_owner(tmp_path):
    """Killed while a video of many seconds is encoded: neither process nor memory is there a moment later."""
    memories = set(Path("/dev/shm").iterdir())
    owner = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path / "a.mp4")], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    writer = int(owner.stdout.readline())
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".a.*.tmp.mp4")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not gone(writer)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    while not gone(writer) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(writer) and not (tmp_path / "a.mp4").exists()
    assert set(Path("/dev/shm").iterdir()) <= memories


@needs_linux
@pytest.mark.slow
def test_a_writers_memory_is_flat_over_1000_clips(tmp_path):
    process, clip = WriterProcess(), CLIP
    own, sizes = [], []
    for number in range(1000):
        process.write(tmp_path / "a.mp4", clip + np.uint8(number % 7), 8)
        sizes.append(resident(process.pid))
        own.append(resident(os.getpid()))
    process.close()
    print(f"writer: {sizes[50]} kB after 50 clips, {max(sizes[50:])} kB at most; owner: {own[50]}, {max(own[50:])}")
    assert max(sizes[200:]) < 1.03 * max(sizes[:200]) and max(own[200:]) < 1.03 * max(own[:200])
    assert read_video(tmp_path / "a.mp4").frames.shape == clip.shape

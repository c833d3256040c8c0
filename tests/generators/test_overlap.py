"""A batch is drawn while the last one is written; whatever stops that, nothing is lost, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from generators import load_generator
from generators.sampling import SamplingItem, sample_videos
from videoduet.records import Prompt
from videoduet.video import ahead
from videoduet.video.apart import WriterProcess, possible

ROOT = Path(__file__).parents[2]
PROMPT = Prompt.of("a red circle moving left fast on a teal background")
ITEMS = [SamplingItem(PROMPT, index, index) for index in range(6)]
needs_linux = pytest.mark.skipif(not possible(), reason="memory without a name is Linux's")


@pytest.fixture(scope="module")
def generator(shipped_generator):
    return load_generator(shipped_generator, sampler={"steps": 1, "num_frames": 2})


def drawing(generator, root: Path, **options):
    return sample_videos(
        generator, ITEMS, root, root=root, version="G_0", round_number=0, **{"batch_size": 2, **options}
    )


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def whole(generator, tmp_path_factory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("whole")
    assert list(drawing(generator, root)) == [2, 2, 2]
    return contents(root)


def test_the_next_batch_is_drawn_while_the_last_is_written(generator, whole, tmp_path, monkeypatch):
    """No video is begun to be encoded until the batch after its own is drawn, and yet all are written."""
    events, sample, write = [], generator.sample, ahead.write_video
    drawn = [threading.Event() for _ in range(3)]

    def noted_sample(embeds, seeds):
        latents = sample(embeds, seeds)
        events.append(f"drawn {seeds}")
        drawn[seeds[0] // 2].set()
        return latents

    def late_write(path, frames, fps):
        index = int(path.stem[-3:])
        assert drawn[min(2, index // 2 + 1)].wait(20), "nothing is drawn while a batch waits to be written"
        write(path, frames, fps)
        events.append(f"written {index}")

    monkeypatch.setattr(generator, "sample", noted_sample)
    monkeypatch.setattr(ahead, "write_video", late_write)
    monkeypatch.setattr(ahead, "cores", lambda: 1)
    assert list(drawing(generator, tmp_path)) == [2, 2, 2]
    places = {event: place for place, event in enumerate(events)}
    assert places["drawn [2, 3]"] < places["written 0"] < places["written 1"] < places["written 2"]
    assert places["drawn [4, 5]"] < places["written 2"] < places["written 5"]
    # One writer, and places for a batch beside it: the third is not drawn before the first makes room.
    assert places["written 0"] < places["drawn [4, 5]"]
    assert contents(tmp_path) == whole


@needs_linux
def test_writers_of_their_own_make_the_same_files_and_are_gone(generator, whole, tmp_path, monkeypatch):
    pids, start = [], WriterProcess.__init__
    monkeypatch.setattr(WriterProcess, "__init__", lambda process: (start(process), pids.append(process.pid))[0])
    steps = drawing(generator, tmp_path, means="processes")
    assert next(steps) == 2
    steps.close()
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(drawing(generator, tmp_path, means="processes")) == [2, 2, 2]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert contents(tmp_path) == whole


def test_what_a_writer_raises_ends_the_drawing_and_its_shard_is_not_there(generator, whole, tmp_path, monkeypatch):
    write = ahead.write_video

    def full(path, frames, fps):
        if path.stem.endswith("_003"):
            raise OSError(28, "No space left on device", str(path))
        write(path, frames, fps)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device"):
        patched.setattr(ahead, "write_video", full)
        list(drawing(generator, tmp_path))
    assert not list(tmp_path.glob("*.*")) and len(list(tmp_path.rglob("*.mp4"))) >= 2
    assert list(drawing(generator, tmp_path)) == [2, 2, 2]
    assert contents(tmp_path) == whole


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_overlap import drawing
from generators import load_generator
generator = load_generator(sys.argv[1], sampler={"steps": 1, "num_frames": 2})
for _ in drawing(generator, Path(sys.argv[3]), means=sys.argv[4], batch_size=1):
    print("written", flush=True)
"""


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("means", ["threads", "processes"])
def test_killed_while_it_writes(generator, shipped_generator, tmp_path, means):
    """With -9, after each number of videos in turn; what is there afterwards stays, and the rest is made good."""
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "killed"
    list(drawing(generator, undisturbed, batch_size=1))
    for told in (0, 1, 4):
        command = [sys.executable, "-c", KILLED, shipped_generator, Path(__file__).parent, root, means]
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for _ in range(told):
            process.stdout.readline()
        while told == 0 and not list(root.rglob("*.mp4")):
            time.sleep(0.001)
        lists = list(Path(f"/proc/{process.pid}/task").glob("*/children"))
        writers = [pid for file in lists for pid in file.read_text().split()]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert bool(writers) == (means == "processes")
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{pid}/fd/0").exists() for pid in writers):
            assert time.monotonic() < deadline, "a writer is left behind"
            time.sleep(0.01)
    left = {path: path.stat().st_mtime_ns for path in root.glob("*.parquet")}
    list(drawing(generator, root, batch_size=1))
    assert all(path.stat().st_mtime_ns == time for path, time in left.items())
    made = {name: data for name, data in contents(root).items() if ".tmp" not in name}
    assert made == contents(undisturbed)

"""Video files: colours survive, bytes repeat, and what cannot be read is named."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from shapes_world import render
from videoduet.errors import InputError
from videoduet.video import read_video, write_video

ROOT = Path(__file__).parent.parent.parent
PROMPT = "a red circle moving left fast on a teal background"


def test_a_clip_comes_back_nearly_unchanged(tmp_path):
    frames = render(PROMPT, 0)
    write_video(tmp_path / "clip.mp4", frames, fps=8)
    clip = read_video(tmp_path / "clip.mp4")
    assert clip.frames.shape == frames.shape and clip.frames.dtype == np.uint8
    error = np.abs(clip.frames.astype(int) - frames.astype(int))
    assert error.mean() < 1.5 and error.max() < 40
    assert clip.fps == 8
    np.testing.assert_allclose(clip.seconds, np.arange(8) / 8, atol=1e-6)


def test_small_clips_keep_full_colour_resolution_and_large_ones_play_everywhere(tmp_path):
    stripes = np.zeros((2, 130, 132, 3), np.uint8)
    stripes[:, :, ::2, 0], stripes[:, :, 1::2, 2] = 220, 220  # columns of red and blue: 4:2:0 makes them purple
    write_video(tmp_path / "small.mp4", stripes[:, :64, :64], fps=8)
    write_video(tmp_path / "large.mp4", stripes, fps=8)
    formats = {}
    for name in ("small", "large"):
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            formats[name] = container.streams.video[0].pix_fmt
    assert formats == {"small": "yuv444p", "large": "yuv420p"}
    small = read_video(tmp_path / "small.mp4").frames.astype(int)
    assert np.abs(small - stripes[:, :64, :64]).mean() < 20


def test_odd_sizes(tmp_path):
    for name, size, expected in (("small", (33, 35), (33, 35)), ("large", (131, 133), (130, 132))):
        write_video(tmp_path / f"{name}.mp4", np.full((2, *size, 3), 90, np.uint8), fps=8)
        assert read_video(tmp_path / f"{name}.mp4").frames.shape == (2, *expected, 3)


def test_the_same_frames_always_give_the_same_bytes(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
    for name in ("one", "two"):
        write_video(tmp_path / f"{name}.mp4", frames, fps=8)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    write_video(tmp_path / "two.mp4", frames[::-1], fps=8)
    assert (tmp_path / "one.mp4").read_bytes() != (tmp_path / "two.mp4").read_bytes()


ENCODE = """
import sys
import numpy as np
from videoduet.video import write_video
y, x = np.mgrid[:40, :48]
waves = np.stack([128 + 80 * np.sin((x + 3 * t) / 9) + 40 * np.cos(y / 7 + t / 3) for t in range(16)])[..., None]
frames = waves + np.random.default_rng(0).normal(0, 6, (16, 40, 48, 3))
write_video(sys.argv[1], frames.clip(0, 255).astype(np.uint8), fps=8)
"""


def test_what_happens_to_lie_in_memory_is_not_encoded(tmp_path):
    encoded = set()
    for filling in ("0", "170"):  # glibc fills new memory with that byte
        path = tmp_path / f"{filling}.mp4"
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        subprocess.run([sys.executable, "-c", ENCODE, str(path)], env=environment, cwd=ROOT, check=True)
        encoded.add(path.read_bytes())
    assert len(encoded) == 1


def numbered(tmp_path, count, fps=4):
    frames = np.stack([np.full((16, 16, 3), 10 + 20 * index, np.uint8) for index in range(count)])
    write_video(tmp_path / "numbered.mp4", frames, fps=fps)
    return tmp_path / "numbered.mp4"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, range(10)), (20, range(10)), (None, range(10))],
)
def test_frames_are_sampled_evenly_with_their_own_times(tmp_path, wanted, expected):
    clip = read_video(numbered(tmp_path, 10), wanted)
    shown = [round((frame.mean() - 10) / 20) for frame in clip.frames.astype(float)]
    assert shown == list(expected)
    np.testing.assert_allclose(clip.seconds, np.array(expected) / 4, atol=1e-6)
    assert clip.fps == 4


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.mp4 does not exist"):
        read_video(tmp_path / "nowhere.mp4")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_video(tmp_path)


def no_video_stream(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode()])


def damaged_header(path):
    write_video(path, np.zeros((4, 32, 32, 3), np.uint8), fps=8)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])


def damaged_stream(path):
    frames = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    write_video(path, frames, fps=8)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : start + len(data) // 2] = b"\xff" * (len(data) // 2)
    path.write_bytes(bytes(data))


BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("this is no video"),
    "half": damaged_header,
    "scratched": damaged_stream,
    "sound only": no_video_stream,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_video_is_named(tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    BROKEN[kind](path)
    with pytest.raises(InputError, match=f"{kind}.mp4.*encode it again"):
        read_video(path)


def test_a_failing_writer_leaves_no_file(tmp_path):
    with pytest.raises(ValueError):
        write_video(tmp_path / "clip.mp4", np.zeros((2, 32, 32, 5), np.uint8), fps=8)
    assert list(tmp_path.iterdir()) == []

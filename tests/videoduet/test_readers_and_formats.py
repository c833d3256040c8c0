"""Another reader that gives the same frames, and the forms that people paste into pages."""

from pathlib import Path

import numpy as np
import pytest
from encoders import encode, mux, shades, turn
from PIL import Image

from videoduet.errors import InputError
from videoduet.video import FrameSampling, animated, read_video, use_reader, write_clip
from videoduet.video.decord_reader import READER, chosen_reader, read_by_decord

VARYING = [0, 40, 80, 120, 160, 200, 1200, 2200, 2240, 2400]


def blocks(count: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Colourful frames that differ from each other everywhere."""
    small = np.random.default_rng(0).integers(0, 255, (count, size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)


PLAIN = {
    "b_frames.mp4": ("libx264", "yuv420p", {"bf": "3"}),
    "full_colour.mkv": ("libx264", "yuv444p", {"g": "7"}),
    "full_range.mov": ("libx264", "yuvj420p", {}),
    "broadcast.mp4": ("libx264", "yuv420p", {"x264-params": "colormatrix=bt709"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}),
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("times", [None, VARYING], ids=["steady", "varying"])
def test_decord_reads_what_pyav_reads(tmp_path, monkeypatch, name, times):
    pytest.importorskip("decord")
    codec, pix_fmt, options = PLAIN[name]
    fps = 8 if times is None else 25
    path = encode(tmp_path / name, blocks(10), codec, pix_fmt, times, fps, **options)
    for sampling, first in ((None, None), (4, None), (FrameSampling(), None), (None, 3)):
        assert read_by_decord(path, sampling, first) is not None
        expected = read_video(path, sampling, first=first, reader="pyav")
        monkeypatch.setenv(READER, "decord")
        found = read_video(path, sampling, first=first)
        assert np.array_equal(found.frames, expected.frames) and np.array_equal(found.seconds, expected.seconds)
        assert found.fps == expected.fps


def turned(path: Path) -> None:
    encode(path, blocks(4), "libx264", "yuv420p")
    turn(path, (-1, 0, 0, 1))


OTHERS = {
    "turned.mp4": turned,
    "ten_bits.mp4": lambda path: encode(path, blocks(4), "libx264", "yuv420p10le"),
    "padded.mp4": lambda path: encode(path, blocks(4, (64, 48)), "libx264", "yuv420p"),
    "broadcast.ts": lambda path: encode(path, blocks(4), "libx264", "yuv420p"),
    "old.avi": lambda path: encode(path, blocks(4), "libx264", "yuv420p", bf="2"),
    "two.mkv": lambda path: mux(path, [("libx264", "yuv420p", blocks(count), None) for count in (1, 4)]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_decord_leaves_to_pyav_what_it_shows_otherwise(tmp_path, name):
    pytest.importorskip("decord")
    OTHERS[name](tmp_path / name)
    assert read_by_decord(tmp_path / name, None, None) is None
    expected = read_video(tmp_path / name, reader="pyav")
    assert np.array_equal(read_video(tmp_path / name, reader="decord").frames, expected.frames)


def test_decord_names_what_is_no_video(tmp_path):
    pytest.importorskip("decord")
    (tmp_path / "text.mp4").write_text("this is no video")
    with pytest.raises(InputError, match="text.mp4 cannot be read"):
        read_video(tmp_path / "text.mp4", reader="decord")


def test_a_reader_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(InputError, match=r"decord is not installed.*videoduet\[decord\]") as raised:
        chosen_reader("decord")
    assert raised.value.exit_code == 2
    monkeypatch.setenv(READER, "opencv")
    with pytest.raises(InputError, match="no reader 'opencv'"):
        read_video(tmp_path)
    monkeypatch.delenv(READER)
    use_reader(None)
    assert chosen_reader() == "pyav"
    use_reader("pyav")
    assert chosen_reader() == "pyav"


@pytest.mark.parametrize(("kind", "name", "near"), [("gif", "a.gif", 8), ("webp", "a.webp", 8), ("frames", "a", 0)])
def test_a_clip_in_other_forms(tmp_path, kind, name, near):
    clip = read_video(encode(tmp_path / "clip.mp4", shades(6, (64, 96)), "libx264", "yuv420p"))
    write_clip(tmp_path / name, clip, kind)
    again = read_video(tmp_path / name)
    assert again.frames.shape == clip.frames.shape
    assert np.abs(again.frames.astype(int) - clip.frames).mean() <= near
    np.testing.assert_allclose(again.seconds, clip.seconds, atol=0.03)
    assert not list(tmp_path.glob(".*"))
    if kind == "frames":
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == [f"{n:05d}.png" for n in range(6)]


def test_a_picture_for_a_page_is_small_and_plays_for_ever(tmp_path):
    (tmp_path / "page.webp").write_bytes(animated(blocks(5, (64, 160)), 100, size=80))
    with Image.open(tmp_path / "page.webp") as image:
        assert image.size == (80, 32) and image.n_frames == 5 and image.info["loop"] == 0
    (tmp_path / "exact.webp").write_bytes(animated(blocks(5), 100, lossless=True))
    assert np.array_equal(read_video(tmp_path / "exact.webp").frames, blocks(5))
    (tmp_path / "one.webp").write_bytes(animated(blocks(1), 100, lossless=True))
    assert np.array_equal(read_video(tmp_path / "one.webp").frames, blocks(1))

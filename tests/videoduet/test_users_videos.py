"""Videos as users have them: every container, rate, size and orientation, written by real encoders."""

import os

import numpy as np
import pytest
from encoders import encode, shades, turn
from PIL import Image

from reward_model.datasets.files import MediaFolder
from reward_model.judging.listed import read_videos
from videoduet.errors import InputError
from videoduet.video import VIDEOS, Clip, FrameSampling, count_frames, read_video, sample_clip, video_id, write_video

FORMATS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "b_frames.mkv": ("libx264", "yuv420p"),
    "ten_bit.mp4": ("libx264", "yuv420p10le"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "prores.mov": ("prores_ks", "yuv422p10le"),
    "lossless.avi": ("ffv1", "yuv444p"),
    "argb.mov": ("qtrle", "argb"),
    "paletted.gif": ("gif", "rgb8"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_container(tmp_path, name):
    frames = shades(9)

    codec, pix_fmt = FORMATS[name]
    clip = read_video(encode(tmp_path / name, frames, codec, pix_fmt))
    assert clip.frames.shape == frames.shape and clip.frames.dtype == np.uint8
    assert np.abs(clip.frames[:, 16:].astype(int) - frames[:, 16:]).mean() < (20 if name == "paletted.gif" else 6)
    np.testing.assert_allclose(clip.seconds - clip.seconds[0], np.arange(9) / 8, atol=0.011)
    assert clip.fps == pytest.approx(8, rel=0.05)
    few = read_video(tmp_path / name, 3)
    assert np.array_equal(few.frames, clip.frames[[0, 4, 8]]) and np.array_equal(few.seconds, clip.seconds[[0, 4, 8]])


def test_gifs_of_other_programs(tmp_path):
    frames = shades(6)
    first, *others = map(Image.fromarray, frames)
    first.save(tmp_path / "pillow.gif", save_all=True, append_images=others, duration=200, loop=0)
    clip = read_video(tmp_path / "pillow.gif")
    assert len(clip.frames) == 6 and clip.fps == pytest.approx(5, rel=0.01)
    assert np.abs(clip.frames.astype(int) - frames).mean() < 6


VARYING = [0, 40, 80, 120, 160, 200, 1200, 2200, 2240, 2400]


@pytest.mark.parametrize(("name", "codec"), [("phone.mp4", "libx264"), ("screen.webm", "libvpx-vp9")])
def test_a_varying_rate_is_sampled_in_time(tmp_path, name, codec):
    path = encode(tmp_path / name, shades(10), codec, "yuv420p", VARYING, fps=25)
    every = read_video(path)
    np.testing.assert_allclose(every.seconds * 1000, VARYING, atol=1.1)
    assert every.fps == pytest.approx(9 / 2.4, rel=0.02)
    clip = read_video(path, 4)
    np.testing.assert_allclose(clip.seconds, [0, 0.8, 1.6, 2.4], atol=0.01)
    assert np.array_equal(clip.frames, every.frames[[0, 5, 6, 9]])


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [(80, 8, 16), (24, 8, 6), (16, 8, 4), (8, 8, 4), (5, 8, 4), (3, 8, 2), (1, 8, 1), (72, 24, 6), (40, 8, 10)],
)
def test_frames_by_the_second(tmp_path, count, fps, expected):
    """2 a second, 4 to 16, even, never more than there are; evenly spaced from the first to the last."""
    write_video(tmp_path / "clip.mp4", shades(count, (16, 16)), fps)
    clip = read_video(tmp_path / "clip.mp4", FrameSampling(fps=2, min_frames=4, max_frames=16))
    indices = np.round(np.linspace(0, count - 1, expected)) if count > expected else np.arange(count)
    np.testing.assert_allclose(clip.seconds, indices / fps, atol=1e-6)


@pytest.mark.parametrize("bad", [{"fps": 0}, {"min_frames": 0}, {"min_frames": 9, "max_frames": 8}])
def test_a_sampling_that_cannot_be(bad):
    with pytest.raises(InputError, match="FrameSampling"):
        FrameSampling(**bad)


@pytest.mark.parametrize(
    ("matrix", "quarters"), [((1, 0, 0, 1), 0), ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)]
)
def test_a_phone_held_upright(tmp_path, matrix, quarters):
    path, frames = tmp_path / "phone.mp4", shades(3)
    write_video(path, frames, fps=8)
    turn(path, matrix)
    expected = np.rot90(frames, quarters, axes=(1, 2))
    clip = read_video(path)
    assert clip.frames.shape == expected.shape
    assert np.abs(clip.frames.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("alpha.mov", "qtrle", "argb"), ("alpha.webm", "libvpx-vp9", "yuva420p"), ("alpha8.webm", "libvpx", "yuva420p")],
)
def test_what_is_transparent_is_white(tmp_path, name, codec, pixels):
    frames = np.concatenate([shades(3), np.full((3, 32, 48, 1), 255, np.uint8)], axis=-1)
    frames[:, :, 24:, 3] = 0
    frames[:, :, 12:24, 3] = 128
    encode(tmp_path / name, frames, codec, pixels, **({"auto-alt-ref": "0"} if codec == "libvpx" else {}))
    clip = read_video(tmp_path / name)
    shown, near = clip.frames.astype(int), 1 if codec == "qtrle" else 25
    np.testing.assert_allclose(clip.seconds, np.arange(3) / 8, atol=1e-3)
    assert (shown[:, :, 28:] >= 256 - near).all()
    half = (frames[:, 16:, 14:22, :3] * 128.0 + 255 * 127) / 255
    np.testing.assert_allclose(shown[:, 16:, 14:22], half, atol=near)
    np.testing.assert_allclose(shown[:, 16:, :10], frames[:, 16:, :10, :3], atol=near - 1)


def test_a_transparent_colour_of_a_palette_is_white(tmp_path):
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([0, 0, 0, 200, 30, 30])
    picture.paste(1, (8, 8, 24, 24))
    picture.save(tmp_path / "0.png", transparency=0)
    (shown,) = read_video(tmp_path).frames
    assert tuple(shown[0, 0]) == (255, 255, 255) and tuple(shown[16, 16]) == (200, 30, 30)


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (3, 200), (64, 2)])
def test_odd_sizes_and_single_frames(tmp_path, size):
    frames = shades(1, size)
    path = encode(tmp_path / "odd.avi", frames, "ffv1", "yuv444p")
    for sampling in (None, 8, FrameSampling()):
        clip = read_video(path, sampling)
        assert clip.frames.shape == frames.shape and clip.seconds.tolist() == [0]


def test_a_folder_of_frames(tmp_path):
    frames = shades(11)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("no image")
    clip = read_video(tmp_path, 3)
    assert np.array_equal(clip.frames, frames[[0, 5, 10]])
    assert clip.fps == 8 and clip.seconds.tolist() == [0, 5 / 8, 10 / 8]
    assert np.array_equal(read_video(tmp_path, first=2).frames, frames[:2])
    before = video_id(tmp_path)
    Image.fromarray(255 - frames[0]).save(tmp_path / "frame_3.png")
    assert video_id(tmp_path) != before


def test_odd_frames_in_a_folder(tmp_path):
    Image.fromarray(shades(1)[0]).save(tmp_path / "1.png")
    Image.fromarray(shades(1, (64, 96))[0]).convert("RGBA").save(tmp_path / "2.png")
    Image.fromarray(shades(1)[0, ..., 0]).save(tmp_path / "3.jpg")
    clip = read_video(tmp_path)
    assert clip.frames.shape == (3, 32, 48, 3)
    assert np.abs(clip.frames.astype(int) - shades(1)).mean() < 6
    (tmp_path / "4.png").write_text("no image")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_video(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    for read in (read_video, count_frames):
        with pytest.raises(InputError, match=r"a\.mp4 is a pipe or a device, not a file"):
            read(tmp_path / "a.mp4")


def test_no_frames_at_all(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        read_video(tmp_path)
    with pytest.raises(InputError, match="no_such"):
        video_id(tmp_path / "no_such.mp4")


def test_packets_that_announce_more_than_there_is(tmp_path):
    """A film cut off in the middle is read as far as it goes."""
    path = encode(tmp_path / "cut.mkv", shades(40), "libx264", "yuv420p", g="5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    every = read_video(path)
    assert 5 < len(every.frames) < 40
    few = read_video(path, 4)
    assert np.array_equal(few.frames[[0, -1]], every.frames[[0, -1]])


def test_a_clip_in_memory_is_sampled_alike(tmp_path):
    write_video(tmp_path / "clip.mp4", shades(20), fps=8)
    for sampling in (3, 50, None, FrameSampling()):
        expected, found = (
            read_video(tmp_path / "clip.mp4", sampling),
            sample_clip(read_video(tmp_path / "clip.mp4"), sampling),
        )
        assert np.array_equal(expected.frames, found.frames) and np.array_equal(expected.seconds, found.seconds)
    assert isinstance(found, Clip)


@pytest.mark.parametrize("suffix", ["avif", "apng", "m2ts", "MTS", "3gp", "ogv", "wmv", "flv", "mpg", "mp4"])
def test_a_folder_s_videos_are_known_by_their_suffix(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").touch()
    (tmp_path / "notes.txt").touch()
    assert read_videos([str(tmp_path)], None, "x") == [(str(tmp_path / f"a.{suffix}"), "x")]
    assert MediaFolder(tmp_path).find("a") == str(tmp_path / f"a.{suffix}") and f".{suffix.lower()}" in VIDEOS

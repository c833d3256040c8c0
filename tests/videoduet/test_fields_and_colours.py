"""Interlaced films, and colours that nothing here shows: docs/videos.md."""

from pathlib import Path

import av
import numpy as np
import pytest
from encoders import encode, shades

from videoduet.errors import InputError
from videoduet.video import count_frames, read_video

INTERLACED = {"flags": "+ildct+ilme"}
FORMATS = {
    "tape.mp4": ("libx264", {**INTERLACED, "crf": "5"}),
    "disc.mpg": ("mpeg2video", {**INTERLACED, "b": "4M"}),
    "broadcast.ts": ("mpeg2video", {**INTERLACED, "b": "4M", "bf": "2"}),
}


def bar(moments: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A bright bar that runs to the right, once a moment."""
    frames = np.full((moments, *size, 3), 30, np.uint8)
    for moment, frame in enumerate(frames):
        frame[:, 3 * moment + 4 : 3 * moment + 16] = 220
    return frames


def woven(moments: np.ndarray) -> np.ndarray:
    """Frames of two moments each: the first in the lower rows of each pair, as these encoders say, then the upper."""
    frames = moments[::2].copy()
    frames[:, ::2] = moments[1::2, ::2]
    return frames


def torn(frames: np.ndarray) -> float:
    """How much the rows of a picture differ from those below, where the bar stood upright."""
    return float(np.abs(np.diff(frames[:, 8:-8].astype(int), axis=1)).mean())


@pytest.mark.parametrize("name", FORMATS)
def test_interlaced_films(tmp_path, name):
    codec, options = FORMATS[name]
    moments = bar(24)
    path = encode(tmp_path / name, woven(moments), codec, "yuv420p", **options)
    clip = read_video(path)
    assert torn(woven(moments)) > 5 > 1 > torn(clip.frames)
    assert clip.frames.shape == (12, 64, 96, 3) and count_frames(path) == 12
    np.testing.assert_allclose(clip.seconds - clip.seconds[0], np.arange(12) / 8, atol=1e-3)
    assert np.abs(clip.frames.astype(int) - moments[::2]).mean() < 8
    few = read_video(path, 3)
    assert np.array_equal(few.frames, clip.frames[[0, 6, 11]]) or np.array_equal(few.frames, clip.frames[[0, 5, 11]])
    assert len(read_video(path, first=2).frames) == 2


def test_an_interlaced_film_between_others(tmp_path):
    """Fields begin, and the size changes, within a film; none of its frames is lost."""
    parts = [
        encode(tmp_path / "0.h264", bar(4), "libx264", "yuv420p"),
        encode(tmp_path / "1.h264", woven(bar(8)), "libx264", "yuv420p", **FORMATS["tape.mp4"][1]),
        encode(tmp_path / "2.h264", woven(bar(8, (32, 48))), "libx264", "yuv420p", **FORMATS["tape.mp4"][1]),
    ]
    (tmp_path / "all.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_video(tmp_path / "all.h264")
    assert clip.frames.shape == (12, 64, 96, 3) and torn(clip.frames) < 1


def test_a_single_interlaced_frame(tmp_path):
    path = encode(tmp_path / "still.mp4", woven(bar(2)), "libx264", "yuv420p", **FORMATS["tape.mp4"][1])
    clip = read_video(path)
    assert clip.frames.shape == (1, 64, 96, 3) and torn(clip.frames) < 1


def dolby_vision(path: Path, **options: str) -> Path:
    options = {"x265-params": "log-level=none:pools=none", **options}
    encode(path, shades(3, (64, 96)), "libx265", "yuv420p10le", **options)
    path.write_bytes(path.read_bytes().replace(b"hev1", b"dvh1"))
    return path


def test_colours_that_dolby_vision_alone_shows(tmp_path):
    path = dolby_vision(tmp_path / "phone.mp4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "dvh1"
    for sampling in (None, 2):
        with pytest.raises(InputError, match="phone.mp4 cannot be read.*Dolby Vision.*profile 5.*encode it again"):
            read_video(path, sampling)


def test_dolby_vision_over_colours_that_others_show(tmp_path):
    params = "log-level=none:pools=none:colorprim=bt709:transfer=bt709:colormatrix=bt709"
    path = dolby_vision(tmp_path / "phone.mp4", **{"x265-params": params})
    assert read_video(path).frames.shape == (3, 64, 96, 3)

"""Pictures as a player shows them, and the stream that it plays: docs/videos.md, row by row."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from encoders import encode, encode_planes, mux, shades, turn, without_some_times
from PIL import Image, ImageOps

from pipelines.report.previews import preview
from videoduet.errors import InputError
from videoduet.video import FrameSampling, count_frames, read_video, write_video
from videoduet.video.clips import timeline
from videoduet.video.tones import HLG, PQ, compressed, hlg_light, hlg_scene, pq_light, pq_signal

ROOT = Path(__file__).parent.parent.parent


def corners(size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A picture that no turn and no mirror leaves as it is: red, green, blue and white in its corners."""
    picture = np.full((*size, 3), 255, np.uint8)
    half, middle = size[0] // 2, size[1] // 2
    picture[:half, :middle], picture[:half, middle:], picture[half:, :middle] = (220, 0, 0), (0, 200, 0), (0, 0, 220)
    return picture


def close(shown: np.ndarray, wanted: np.ndarray, most: float = 12) -> bool:
    return shown.shape == wanted.shape and float(np.abs(shown.astype(int) - wanted).mean()) < most


MATRICES = {
    "mirrored": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda picture: picture[::-1]),
    "transposed": ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), lambda picture: np.rot90(picture.transpose(1, 0, 2), 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_display_matrix_that_mirrors(tmp_path, name):
    matrix, place = MATRICES[name]
    path, picture = tmp_path / "selfie.mp4", corners()
    write_video(path, np.repeat(picture[None], 5, 0), fps=8)
    turn(path, matrix)
    assert close(read_video(path).frames[0], place(picture))
    assert close(read_video(path, 2).frames[1], place(picture))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_photographs(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("0", "1"):
        Image.fromarray(corners()).save(tmp_path / f"{name}.{suffix}", exif=exif)
    with Image.open(tmp_path / f"0.{suffix}") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert all(close(shown, wanted) for shown in read_video(tmp_path).frames)
    assert close(read_video(tmp_path / f"1.{suffix}").frames[0], wanted)


def with_aspect(path: Path, frames: np.ndarray, aspect: Fraction) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(4, 3), (48, 85)), (Fraction(1, 2), (96, 64)), (Fraction(1), (48, 64)), (Fraction(1, 40), (48, 64))],
)
def test_pixels_that_are_not_square(tmp_path, suffix, aspect, size):
    path = with_aspect(tmp_path / f"disc.{suffix}", np.repeat(corners()[None], 4, 0), aspect)
    clip = read_video(path)
    assert clip.frames.shape == (4, *size, 3)
    assert close(clip.frames[0], np.asarray(Image.fromarray(corners()).resize(size[::-1])))
    assert np.array_equal(read_video(path, 2).frames, clip.frames[[0, 3]])


def test_oblong_pixels_of_a_film_that_is_turned(tmp_path):
    path = with_aspect(tmp_path / "disc.mp4", np.repeat(corners()[None], 3, 0), Fraction(2))
    turn(path, (0, 1, -1, 0))
    wide = np.asarray(Image.fromarray(corners()).resize((128, 48)))
    shown = read_video(path).frames
    assert shown.shape == (3, 128, 48, 3) and close(shown[0], np.rot90(wide, 3))


def test_a_preview_shows_what_a_player_shows(tmp_path):
    import base64
    import io

    path = with_aspect(tmp_path / "disc.mp4", np.repeat(corners()[None], 3, 0), Fraction(2))
    turn(path, (-1, 0, 0, 1))
    shown = Image.open(io.BytesIO(base64.b64decode(preview(str(path)).partition(",")[2])))
    wide = np.asarray(Image.fromarray(corners()).resize((128, 48)))
    assert close(np.asarray(shown.convert("RGB")), wide[:, ::-1])


def test_a_size_that_changes_within_a_film(tmp_path):
    parts = [
        encode(tmp_path / f"{size[0]}.h264", shades(3, size), "libx264", "yuv420p") for size in ((32, 48), (64, 96))
    ]
    (tmp_path / "both.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_video(tmp_path / "both.h264")
    assert clip.frames.shape == (6, 32, 48, 3)
    assert close(clip.frames[3:], clip.frames[:3])


FILM, STILL = shades(8), np.full((1, 64, 64, 3), 30, np.uint8)


def test_a_still_before_the_film(tmp_path):
    for suffix in ("mp4", "mkv", "mov"):
        path = mux(
            tmp_path / f"still.{suffix}",
            [("mjpeg", "yuvj444p", STILL, None), ("libx264", "yuv420p", FILM, None)],
        )
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "mjpeg"
        assert close(read_video(path).frames, FILM)
        for sampling in (3, FrameSampling()):
            few = read_video(path, sampling)
            assert few.frames.shape[1:] == (32, 48, 3) and len(few.frames) > 1
        assert count_frames(path) == 8


def test_a_cover_beside_the_film(tmp_path):
    cover = ("mjpeg", "yuvj444p", STILL, Disposition.attached_pic)
    path = mux(tmp_path / "cover.mp4", [cover, ("libx264", "yuv420p", FILM, None)])
    assert close(read_video(path, 4).frames, FILM[[0, 2, 5, 7]]) and count_frames(path) == 8


def test_a_cover_alone_is_no_film(tmp_path):
    path = mux(tmp_path / "song.mp4", [("mjpeg", "yuvj444p", STILL, Disposition.attached_pic)])
    for read in (read_video, count_frames):
        with pytest.raises(InputError, match="song.mp4.*a cover, but no film"):
            read(path)


def test_the_default_stream_is_played(tmp_path):
    for suffix in ("mp4", "mkv"):
        streams = [("libx264", "yuv420p", 255 - FILM, 0), ("libx264", "yuv420p", FILM, Disposition.default)]
        path = mux(tmp_path / f"two.{suffix}", streams)
        assert close(read_video(path).frames, FILM)
        path = mux(tmp_path / f"other.{suffix}", [(*stream[:3], None) for stream in streams])
        assert close(read_video(path).frames, 255 - FILM)


def test_a_picture_that_nothing_decodes(tmp_path):
    streams = [("libx264", "yuv420p", 255 - FILM, None), ("mpeg4", "yuv420p", FILM, None)]
    for count in (1, 2):
        path = mux(tmp_path / f"{count}.mp4", streams[:count])
        path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert close(read_video(tmp_path / "2.mp4").frames, FILM)
    with pytest.raises(InputError, match="1.mp4.*nothing here decodes its picture"):
        read_video(tmp_path / "1.mp4")


def moving_pictures(path: Path, frames: np.ndarray) -> Path:
    first, *others = map(Image.fromarray, frames)
    options = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=200, loop=0, **options)
    return path


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
def test_moving_pictures(tmp_path, suffix):
    """AVIF has a still before its film."""
    path = moving_pictures(tmp_path / f"moving.{suffix}", shades(6))
    clip = read_video(path)
    assert close(clip.frames, shades(6)) and clip.fps == pytest.approx(5, rel=0.01)
    np.testing.assert_allclose(clip.seconds, np.arange(6) / 5, atol=1e-3)
    few = read_video(path, 3)
    assert np.array_equal(few.frames, clip.frames[[0, 2, 5]]) and count_frames(path) == 6
    assert len(read_video(path, first=2).frames) == 2


def test_a_track_without_frames(tmp_path):
    path = mux(tmp_path / "whole.mp4", [("libx264", "yuv420p", FILM, None)], movflags="empty_moov+frag_keyframe")
    data = path.read_bytes()
    (tmp_path / "stopped.mp4").write_bytes(data[: data.index(b"moof") - 4])
    for sampling in (None, 4, FrameSampling()):
        with pytest.raises(InputError, match="stopped.mp4 holds no frames"):
            read_video(tmp_path / "stopped.mp4", sampling)
    with pytest.raises(InputError, match="stopped.mp4 holds no frames"):
        count_frames(tmp_path / "stopped.mp4")


@pytest.mark.parametrize("kind", [TypeError, RuntimeError, MemoryError, KeyError, StopIteration])
def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch, kind):
    path = encode(tmp_path / "odd.mp4", FILM, "libx264", "yuv420p")

    def fail(*arguments: object) -> None:
        raise kind("no sample table")

    monkeypatch.setattr("videoduet.video.streams.decoded", fail)
    monkeypatch.setattr("videoduet.video.reading.decoded", fail)
    with pytest.raises(InputError, match=rf"odd\.mp4 cannot be read \({kind.__name__}"):
        read_video(path, 3)


def test_packets_without_times(tmp_path):
    path = encode(tmp_path / "bare.h264", shades(20), "libx264", "yuv420p", fps=10, bf="2")
    clip = read_video(path, 4)
    every = read_video(path)
    assert len(every.frames) == 20 and np.array_equal(clip.frames, every.frames[[0, 6, 13, 19]])
    assert all(later.mean() > before.mean() for before, later in zip(every.frames, every.frames[1:], strict=False))


def test_times_that_count_packets_beside_b_frames(tmp_path):
    """AVI numbers packets in the order of decoding, so frames come with times that run backwards."""
    path = encode(tmp_path / "old.avi", shades(20), "libx264", "yuv420p", fps=10, bf="2")
    clip = read_video(path)
    np.testing.assert_allclose(clip.seconds, np.arange(20) / 10)
    few = read_video(path, 4)
    assert np.array_equal(few.frames, clip.frames[[0, 6, 13, 19]])
    assert all(later.mean() > before.mean() for before, later in zip(clip.frames, clip.frames[1:], strict=False))


def test_packets_some_of_which_have_no_time(tmp_path):
    """Beside B-frames, whose packets come in another order than they are shown in."""
    path = encode(tmp_path / "broadcast.ts", shades(20), "libx264", "yuv420p", fps=10, bf="2")
    whole = read_video(path)
    clip = read_video(without_some_times(path))
    with av.open(str(path)) as container:
        assert any(packet.pts is None and packet.size for packet in container.demux(video=0))
    assert np.array_equal(clip.frames, whole.frames) and clip.fps == whole.fps
    np.testing.assert_allclose(clip.seconds, whole.seconds, atol=1e-6)
    assert np.array_equal(read_video(path, 4).frames, whole.frames[[0, 6, 13, 19]])


@pytest.mark.parametrize(
    ("times", "rate", "seconds"),
    [
        ([0.0, None, 0.4, None, None, 1.0], 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([None, 0.2, None, 0.6, None], 5, [0, 0.2, 0.4, 0.6, 0.8]),
        ([3.0, 3.1, None, 3.3], 10, [3.0, 3.1, 3.2, 3.3]),
        ([None, None], 4, [0, 0.25]),
        ([None, 1.0, 0.5], 4, [0, 0.25, 0.5]),
    ],
)
def test_frames_without_a_time_lie_between_their_neighbours(times, rate, seconds):
    found, fps = timeline(times, rate)
    np.testing.assert_allclose(found, seconds, atol=1e-9)
    assert fps == rate


def test_hdr_by_the_numbers_of_its_standards():
    """BT.2100's curves by BT.2408's table 1: diffuse white is 203 cd/m², 58 % of PQ and 75 % of HLG."""
    assert pq_signal(np.array(203.0)) == pytest.approx(0.58, abs=0.002)
    assert pq_signal(np.array([100.0, 1000.0, 10000.0])) == pytest.approx([0.508, 0.752, 1.0], abs=0.001)
    assert pq_light(np.array([0.508078, 0.751827])) == pytest.approx([100, 1000], rel=1e-4)
    assert hlg_light(hlg_scene(np.full((1, 3), 0.75)))[0] == pytest.approx(203, rel=0.002)
    assert hlg_light(hlg_scene(np.ones((1, 3))))[0] == pytest.approx(1000, rel=1e-4)
    # BT.2390: dark light stays, the peak becomes white, and brighter light never becomes darker.
    assert compressed(np.array(0.4)) == pytest.approx(0.4)
    assert compressed(pq_signal(np.array(1000.0))) == pytest.approx(pq_signal(np.array(203.0)))
    assert (np.diff(compressed(np.linspace(0, 1, 500))) >= -1e-12).all()


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 0.58), (HLG, 0.75)])
def test_hdr_is_toned(tmp_path, transfer, white):
    """Diffuse white is shown as a bright grey, with room for the light beyond it; colours keep their hue."""
    shown = {}
    for name, signal in {"black": (0, 0, 0), "white": (white,) * 3, "light": (1, 1, 1), "red": (0.5, 0.2, 0.2)}.items():
        frames = read_video(encode_planes(tmp_path / f"{name}.mkv", signal, transfer), 2).frames
        assert frames.shape == (2, 32, 32, 3) and frames.dtype == np.uint8
        shown[name] = frames[0, 8, 8].astype(int)
    assert shown["black"].max() <= 2 and shown["light"].min() >= 253
    assert shown["white"].min() >= 215 and np.ptp(shown["white"]) <= 2 and shown["white"].max() <= 240
    assert shown["red"][0] > 140 and shown["red"][1:].max() < 70


def test_every_row_of_the_table_is_a_test():
    here = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    rows = [line for line in (ROOT / "docs/videos.md").read_text().splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 20 and all(named)
    assert not [name for names in named for name in names if f"def {name}(" not in here]

"""Stored preferences in the formats that they are published in."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Features, Value, Video

from alignment.preferences.stored import Columns, StoredPair, read_preferences, write_preferences
from alignment.training.latent_cache import LatentCache, fitted_frames
from generators import load_generator
from videoduet.errors import InputError
from videoduet.records import SamplerSettings
from videoduet.video import write_video

SETTINGS = SamplerSettings(steps=4, guidance_scale=1.0, fps=8, num_frames=8, height=32, width=32)


@pytest.fixture
def clips(tmp_path) -> list[Path]:
    """Three clips of 10 frames at 8 a second, each of one grey."""
    paths = [tmp_path / "clips" / f"{number}.mp4" for number in range(3)]
    for number, path in enumerate(paths):
        write_video(path, np.full((10, 32, 48, 3), 60 * (number + 1), np.uint8), 8)
    return paths


NAMES = Columns()


def read(data: object, tmp_path: Path, columns: Columns = NAMES) -> tuple[list[StoredPair], list[str]]:
    return read_preferences(str(data), tmp_path / "videos", columns)


def test_videodpo(clips, tmp_path):
    folder = clips[0].parent
    meta = [
        {"basic": {"clip_path": path.name, "clip_duration": 1.25}, "misc": {"frame_caption": ["x"]}} for path in clips
    ]
    pairs = [
        {"video1": 2, "video2": 0, "frame_caption": ["a cat"], "score": 0.25},
        {"video1": 1, "video2": 0, "frame_caption": "a dog"},
        {"video1": 1, "video2": 7, "frame_caption": "a cow"},
        {"video1": 1, "video2": 1, "frame_caption": "a hen"},
        {"video1": 1, "video2": 0, "frame_caption": []},
        {"video1": 1, "video2": 0},
    ]
    (folder / "metadata.json").write_text(json.dumps(meta))
    (folder / "pair.json").write_text(json.dumps(pairs))
    found, problems = read(folder, tmp_path)
    assert found == [StoredPair("a cat", clips[2], clips[0], 0.25), StoredPair("a dog", clips[1], clips[0], 1.0)]
    assert len(problems) == 4 and all("no caption" in problem for problem in problems[2:])
    assert "videos 1 and 7 of 3" in problems[0] and "against itself" in problems[1]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_unifiedreward(clips, tmp_path, suffix):
    items = [
        {"caption": "a cat", "chosen": "clips/0.mp4", "rejected": "clips/1.mp4", "chosen_score": 4},
        {"caption": "a cat", "chosen": "clips/0.mp4", "rejected": "clips/none.mp4"},
        {"caption": "a cat", "chosen": "clips/0.mp4"},
        {"caption": " ", "chosen": "clips/0.mp4", "rejected": "clips/1.mp4"},
    ]
    text = json.dumps(items) if suffix == ".json" else "\n".join(map(json.dumps, items))
    (tmp_path / f"data{suffix}").write_text(text)
    found, problems = read(tmp_path / f"data{suffix}", tmp_path)
    assert found == [StoredPair("a cat", *clips[:2])]
    assert len(problems) == 3
    assert "none.mp4 does not" in problems[0] and "no rejected" in problems[1] and "no caption" in problems[2]


@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_a_hugging_face_data_set(clips, tmp_path, kind):
    side = (lambda path: {"bytes": path.read_bytes(), "path": path.name}) if kind == "bytes" else str
    features = Features({"text": Value("string"), "a": Video(decode=False), "b": Video(decode=False)})
    rows = {"text": ["a cat", "a dog"], "a": [side(clips[0]), None], "b": [side(clips[1]), side(clips[2])]}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "data")
    found, problems = read(tmp_path / "data", tmp_path, Columns("text", "a", "b"))
    assert [pair.caption for pair in found] == ["a cat"] and len(problems) == 1
    assert found[0].chosen.read_bytes() == clips[0].read_bytes()
    assert found[0].rejected.read_bytes() == clips[1].read_bytes()
    with pytest.raises(InputError, match="no column caption; it has text, a, b"):
        read(tmp_path / "data", tmp_path)


def test_what_is_written_is_read_again(clips, tmp_path):
    pairs = [StoredPair("a cat", clips[0], clips[1], 0.5), StoredPair("a “dog”", clips[2], clips[1])]
    write_preferences(tmp_path / "out.jsonl", pairs)
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["chosen"] == "clips/0.mp4"
    assert read(tmp_path / "out.jsonl", tmp_path) == (pairs, [])


def test_tables_of_paths(clips, tmp_path):
    rows = [{"text": "a\u2028cat", "good": "clips/0.mp4", "bad": "clips/1.mp4"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", tmp_path, Columns("text", "good", "bad"))[0] == [
        StoredPair("a\u2028cat", *clips[:2])
    ]
    text = "caption\tchosen\trejected\tscore\n" + "a cat\tclips/0.mp4\tclips/1.mp4\t{}\n" * 3
    (tmp_path / "a.TSV").write_text(text.format(0.5, "", "nan"))
    found, problems = read(tmp_path / "a.TSV", tmp_path)
    assert [pair.score for pair in found] == [0.5, 1.0] and "its score is nan" in problems[0]
    (tmp_path / "a.TSV").write_text(text.format("much", 0.2, 0.3))
    found, problems = read(tmp_path / "a.TSV", tmp_path)
    assert [pair.score for pair in found] == [0.2, 0.3] and "'much'" in problems[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.json", "[]", "no usable pair"), ("a.json", "{", "cannot be read"), ("a.jsonl", "3\n", "cannot be read")],
)
def test_no_preference_data(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read(tmp_path / name, tmp_path)


def test_frames_are_cut_to_the_generators_size_and_rate(clips, tmp_path):
    frames = fitted_frames(clips[1], SETTINGS)
    assert frames.shape == (8, 32, 32, 3) and (frames.float() - 120).abs().max() < 4
    ramp = np.repeat(np.arange(32, dtype=np.uint8)[:, None], 32 * 32 * 3, 1).reshape(32, 32, 32, 3) * 8
    write_video(tmp_path / "fast.mp4", ramp, 32)
    levels = fitted_frames(tmp_path / "fast.mp4", SETTINGS).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(levels, torch.arange(8.0) * 32, rtol=0, atol=4)
    write_video(tmp_path / "film.mp4", ramp[:, :32], 24)
    sixteen = SamplerSettings(**{**vars(SETTINGS), "fps": 16})
    levels = fitted_frames(tmp_path / "film.mp4", sixteen).float().mean(dim=(1, 2, 3)) / 8
    assert levels.round().tolist() == [0, 1, 3, 4, 6, 7, 9, 10]
    with pytest.raises(InputError, match="8 frames a second, fewer than the 16"):
        fitted_frames(clips[0], sixteen)
    stored = fitted_frames(tmp_path / "film.mp4", sixteen, "as_stored").float().mean(dim=(1, 2, 3)) / 8
    assert stored.round().tolist() == list(range(8))
    with pytest.raises(InputError, match="has 10 frames; 16 are needed"):
        fitted_frames(clips[0], SamplerSettings(**{**vars(SETTINGS), "num_frames": 16}), "as_stored")
    with pytest.raises(InputError, match=r"lasts 1\.25 s; 16 frames at 8 a second need 2\.00 s"):
        fitted_frames(clips[0], SamplerSettings(**{**vars(SETTINGS), "num_frames": 16}))


def test_each_video_is_encoded_once(clips, tmp_path, shipped_generator):
    generator = load_generator(shipped_generator, sampler={"num_frames": 8})
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    cache = LatentCache(tmp_path / "latents", generator, "weights")
    first = list(cache.encode([clips[0], tmp_path / "torn.mp4"]))
    assert first[0].problem is None and "torn.mp4" in first[1].problem
    assert cache.path(first[0].video_id).exists() and first[0].video == clips[0]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").iterdir()}
    halves = [list(cache.encode(clips, process, 2)) for process in (0, 1)]
    assert [len(half) for half in halves] == [2, 1]
    files = list((tmp_path / "latents").iterdir())
    assert len(files) == 3 and all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert LatentCache(tmp_path / "latents", generator, "others").path("x") != cache.path("x")

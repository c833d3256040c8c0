"""Whatever a single item raises never ends a batch: it is listed with its reason, and the others are done."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path += [str(Path(__file__).parents[1] / room) for room in ("reward_model", "videoduet")]

from encoders import mux
from miniature import write_miniature
from scripted_judges import Brightest
from small_judge import write_clips
from stub_server import serving

import shapes_world
from alignment.training import latent_cache
from evaluation.vbench import scoring
from evaluation.vbench.suite import VideoFile
from generators import load_generator
from pipelines import judge as command
from pipelines.loop import videos as loop_videos
from pipelines.report import previews
from reward_model import encoding
from reward_model.judging import batch, server
from reward_model.judging.batch import pair_records, records
from reward_model.measuring.benchmark import evaluate
from reward_model.measuring.config import JudgeEvaluationConfig
from videoduet.store import read_json
from videoduet.video import count_frames, read_video, write_video
from videoduet.workspace import Workspace

MODELS = Path(shapes_world.__file__).parent / "models"
FRAMES = np.zeros((8, 32, 32, 3), np.uint8)
ERRORS = [
    TypeError("'NoneType' object is not subscriptable"),
    RuntimeError("no memory for a picture"),
    KeyError("moov"),
]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def failing(request):
    """Makes a function that raises what nobody thought of, for paths with 'odd' in their names, of one that reads."""

    def made(read):
        def one(path, *arguments, **options):
            if "odd" in str(path):
                raise request.param
            return read(path, *arguments, **options)

        return one

    made.name = type(request.param).__name__
    return made


@pytest.fixture
def clips(tmp_path) -> dict[str, Path]:
    shades = {"good": 60, "fine": 120, "odd": 180}
    for name, shade in shades.items():
        write_video(tmp_path / f"{name}.mp4", np.full((8, 32, 32, 3), shade, np.uint8), 8)
    return {name: tmp_path / f"{name}.mp4" for name in shades}


def listed(clips: dict[str, Path], folder: Path) -> Path:
    rows = [("odd", "good"), ("good", "fine")]
    lines = (f"{clips[first]},{clips[second]},a circle" for first, second in rows)
    (folder / "pairs.csv").write_text("\n".join(["first,second,prompt", *lines]))
    return folder / "pairs.csv"


@pytest.mark.parametrize("where", ["decoding", "naming"])
def test_the_judges_command(clips, tmp_path, monkeypatch, capsys, failing, where):
    module, name = (encoding, "read_video") if where == "decoding" else (batch, "as_video")
    monkeypatch.setattr(module, name, failing(getattr(module, name)))
    command.main(["compare", "--batch", str(listed(clips, tmp_path)), "--jsonl"])
    found = capsys.readouterr()
    (row,) = map(json.loads, found.out.splitlines())
    assert row["first"] == str(clips["good"])
    assert "odd.mp4" in found.err.replace("\n", "") and failing.name in found.err and "Traceback" not in found.err


def test_a_track_without_frames_in_a_list(clips, tmp_path, capsys):
    """With a preset that samples by the second, as published judges do."""
    mux(tmp_path / "whole.mp4", [("libx264", "yuv420p", FRAMES, None)], movflags="empty_moov+frag_keyframe")
    data = (tmp_path / "whole.mp4").read_bytes()
    clips["odd"].write_bytes(data[: data.index(b"moof") - 4])
    shutil.copytree(MODELS / "judge", tmp_path / "judge", ignore=shutil.ignore_patterns("judge_prompt.json"))
    options = ["--judge", str(tmp_path / "judge"), "--preset", "vqinsight-comp", "--jsonl"]
    command.main(["compare", "--batch", str(listed(clips, tmp_path)), *options])
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == 1
    assert "odd.mp4 holds no frames" in " ".join(found.err.split())


def test_a_judge_behind_a_server(clips, tmp_path, monkeypatch, capsys, failing):
    monkeypatch.setattr(server, "read_video", failing(read_video))
    with serving() as stub:
        options = ["--backend", "server", "--server", f"http://127.0.0.1:{stub.server_port}/v1", "--judge", "stub"]
        command.main(["compare", "--batch", str(listed(clips, tmp_path)), "--jsonl", *options])
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == 1 and failing.name in found.err


def test_records_of_what_is_listed(clips, monkeypatch, failing):
    monkeypatch.setattr(batch, "as_video", failing(batch.as_video))
    failures = []
    assert len(records([(str(path), "x") for path in clips.values()], failures)) == 2
    assert len(pair_records([(str(clips["good"]), str(clips[name]), "x") for name in ("fine", "odd")], failures)) == 1
    assert len(failures) == 2 and all(failing.name in failure.reason for failure in failures)


@pytest.fixture
def benchmark(tmp_path):
    (tmp_path / "clips").mkdir()
    write_clips(tmp_path / "clips")

    def made(name: str, **options) -> JudgeEvaluationConfig:
        write_miniature(name, tmp_path / name, sorted((tmp_path / "clips").glob("*.mp4")))
        return JudgeEvaluationConfig(
            benchmark=name, data=str(tmp_path / name), output=str(tmp_path / "out"), batch_size=4, resamples=20,
            **options,
        )  # fmt: skip

    return made


def test_a_benchmark(benchmark, monkeypatch):
    asked = replace(benchmark("lgvq", judge=str(MODELS / "judge")), limit=4)
    calls, read = [], read_video

    def first_fails(path, *arguments):
        calls.append(path)
        if path == calls[0]:
            raise TypeError("no sample table")
        return read(path, *arguments)

    monkeypatch.setattr(encoding, "read_video", first_fails)
    results = evaluate(asked)
    assert results["unreadable_videos"] >= 1 and results["n"] == 4 - results["unreadable_videos"] > 0


class Stumbles(Brightest):
    """Fails on every pair of the first video that it sees."""

    seen: str | None = None

    def compare(self, pairs):
        for pair in pairs:
            type(self).seen = self.seen or pair.first.path
            if pair.first.path == self.seen:
                raise ZeroDivisionError("of a metric")
            yield from super().compare([pair])


def test_a_class_that_fails_on_one_pair(benchmark, capsys, monkeypatch):
    monkeypatch.setattr(Stumbles, "seen", None)
    results = evaluate(benchmark("monetbench", factory=f"{__name__}.Stumbles"))
    assert 0 < results["unreadable_videos"] < 6
    assert "ZeroDivisionError: of a metric" in capsys.readouterr().err


class Broken:
    """Fails on all."""

    def compare(self, pairs):
        raise ZeroDivisionError("always")


def test_a_class_that_fails_on_all_says_so_itself(benchmark):
    with pytest.raises(ZeroDivisionError, match="always"):
        evaluate(benchmark("monetbench", factory=f"{__name__}.Broken"))


def test_the_latent_cache(clips, tmp_path, monkeypatch, failing):
    generator = load_generator(str(MODELS / "generator"), sampler={"num_frames": 8})
    monkeypatch.setattr(latent_cache, "read_video", failing(read_video))
    cache = latent_cache.LatentCache(tmp_path / "latents", generator, "weights")
    found = list(cache.encode([clips["odd"], tmp_path / "gone.mp4", clips["good"]]))
    assert [encoded.problem is None for encoded in found] == [False, False, True]
    assert failing.name in found[0].problem and "gone.mp4" in found[1].problem
    assert len(list((tmp_path / "latents").iterdir())) == 1


def test_vbench(clips, tmp_path, monkeypatch, failing):
    monkeypatch.setattr(scoring, "count_frames", failing(count_frames))
    files = [VideoFile(path, "x", index) for index, path in enumerate(clips.values())]
    good, bad = scoring.readable(files, tmp_path / "checked.json")
    assert len(good) == 2 and [(path.name, failing.name in reason) for path, reason in bad] == [("odd.mp4", True)]


def test_a_round(clips, tmp_path, monkeypatch, failing):
    monkeypatch.setattr(loop_videos, "read_video", failing(read_video))
    directory = Workspace(tmp_path)
    videos = loop_videos.RoundVideos(directory)
    assert [videos._can_be_read(str(path)) for path in clips.values()] == [True, True, False]
    (row,) = read_json(tmp_path / "quarantine.json")
    assert row["path"] == "odd.mp4" and failing.name in row["reason"]


def test_a_preview(clips, monkeypatch, failing):
    monkeypatch.setattr(previews, "read_video", failing(read_video))
    assert previews.preview(str(clips["odd"])) is None and previews.preview(str(clips["good"]))

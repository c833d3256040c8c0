"""``pipelines.evaluate_vbench``: the official suite drawn by a tiny generator, results, resumption, bad input."""

import csv
import json
import os
import re
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.vbench.aggregation import DIMENSIONS, aggregate
from evaluation.vbench.config import VBenchEvaluationConfig
from evaluation.vbench.drawing import draw
from evaluation.vbench.environment import installed, suite_path
from evaluation.vbench.results import read_base, save, summarise
from evaluation.vbench.scoring import DimensionResult, readable
from evaluation.vbench.statistics import ScoredVideo
from evaluation.vbench.suite import SuiteVideo, read_suite, suite_videos
from pipelines.evaluate_vbench import main, run
from pipelines.report.vbench import write_page
from pipelines.setup_vbench import main as setup
from shapes_world import all_scenes
from videoduet.errors import InputError
from videoduet.store import read_json
from videoduet.video import read_video, write_video

ROWS = [
    {"prompt_en": scene.prompt, "dimension": list(names)}
    for scene, names in zip(
        all_scenes()[::40], [("temporal_flickering",), ("dynamic_degree",), ("scene",)] * 2, strict=False
    )
]
ROWS[1]["prompt_en"] = "either/or: a <b>red</b> circle"
real = pytest.mark.skipif(installed("standard") is None, reason="no VBench environment (pipelines.setup_vbench)")


@pytest.fixture
def suite(tmp_path, monkeypatch) -> Path:
    """A folder of environments with a small suite and nothing to score with."""
    package = tmp_path / "environments" / "standard" / "lib" / "python3.11" / "site-packages" / "vbench"
    package.mkdir(parents=True)
    (package / "VBench_full_info.json").write_text(json.dumps(ROWS))
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "environments"))
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    return suite_path()


@pytest.fixture
def config(tmp_path, shipped_generator, suite) -> VBenchEvaluationConfig:
    return VBenchEvaluationConfig(
        generator=str(shipped_generator), output=str(tmp_path / "out"), videos_per_prompt=2, flickering_videos=3,
        batch_size=4, sampler={"steps": 1, "num_frames": 4}, dimensions=["temporal_flickering", "dynamic_degree"],
    )  # fmt: skip


def wanted(config: VBenchEvaluationConfig, *names: str) -> list[SuiteVideo]:
    rows = [row for row in read_suite(suite_path()) if set(names or config.dimensions) & set(row.dimensions)]
    return suite_videos(rows, config.videos_per_prompt, config.flickering_videos)


def pixels(folder: Path) -> dict[tuple[str, int], bytes]:
    with open(folder / "videos.csv", newline="") as file:
        return {
            (row["prompt"], int(row["index"])): (folder / row["video"]).read_bytes() for row in csv.DictReader(file)
        }


def command(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["evaluate_vbench", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return 0


def noise(path: Path, seed: int = 0) -> Path:
    write_video(path, np.random.default_rng(seed).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), 8)
    return path


def test_the_suite_is_drawn_under_official_names(config):
    folder = draw(config, wanted(config))
    drawn = pixels(folder)
    assert set(drawn) == {(video.prompt, video.index) for video in wanted(config)} and len(drawn) == 2 * 3 + 2 * 2
    assert len(set(drawn.values())) == len(drawn), "every video has noise of its own"
    for (prompt, index), _ in drawn.items():
        assert (folder / f"{prompt}-{index}.mp4").exists() == ("/" not in prompt)
    assert read_video(next(folder.glob("*.mp4"))).frames.shape == (4, 32, 32, 3)


def test_what_the_text_encoder_does_not_read_is_kept_and_told(config, monkeypatch, capsys):
    rows = [{**ROWS[0], "prompt_en": f"{ROWS[0]['prompt_en']} " * 40}, *ROWS[1:]]
    suite_path().write_text(json.dumps(rows))
    for _ in ("drawn", "read back"):
        with pytest.raises(InputError, match="No dimension"):
            run(config)
        (told,) = [text for text in read_json(Path(config.output) / "results.json")["problems"] if "longer" in text]
        assert told.startswith("1 of 4 prompts are longer") and f"Warning: {told}" in capsys.readouterr().err
        assert "prompts are longer than the" in (Path(config.output) / "results.html").read_text()


def test_what_was_drawn_is_kept_and_more_is_added(config):
    whole = pixels(draw(config, wanted(config)))
    samples = Path(config.output) / "samples"
    newest = max(samples.glob("samples_*.parquet"))
    before = {path: path.stat().st_mtime_ns for path in samples.glob("samples_*.parquet")}
    newest.unlink()
    assert pixels(draw(config, wanted(config))) == whole, "stopped and resumed, it is the same to the byte"
    more = draw(config, wanted(config, "temporal_flickering", "dynamic_degree", "scene"))
    assert {**pixels(more), **whole} == pixels(more) and len(pixels(more)) == len(whole) + 4
    assert all(path.stat().st_mtime_ns == mark for path, mark in before.items() if path != newest)
    with pytest.raises(InputError, match="drawn with another seed; give another --output"):
        draw(replace(config, seed=1), wanted(config))


def test_nothing_to_score_with_is_told_and_what_was_drawn_stays(config, monkeypatch, capsys):
    arguments = ["--generator", config.generator, "--output", config.output, "--videos_per_prompt", 1,
                 "--flickering_videos", 1, "--sampler.steps", 1, "--sampler.num_frames", 4]  # fmt: skip
    assert command(monkeypatch, *arguments) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "No dimension could be scored" in said and "run: python -m pipelines.setup_vbench" in said
    figures = json.loads((Path(config.output) / "results.json").read_text())
    assert list(figures["dimensions"]) == list(DIMENSIONS) and figures["totals"] == {}
    assert all(set(values) == {"not_scored"} for values in figures["dimensions"].values())
    assert len(pixels(Path(config.output) / "videos")) == 6


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--output", "x"], 2, "Give either --generator, which draws the videos, or --videos"),
        (["--videos", "v", "--generator", "g", "--output", "x"], 2, "Give either"),
        (["--videos", "nowhere"], 2, "No output is named"),
        (["--videos", "nowhere", "--output", "x", "--dimensions", "[sceen]"], 2, "no dimension sceen; choose among"),
        (["--videos", "nowhere", "--output", "x", "--processes", "0"], 2, "processes is 0; give 1 or more"),
        (["--videos", "nowhere", "--output", "x"], 1, "Videos folder nowhere does not exist"),
        (["--videos", ".", "--output", "x", "--base", "nowhere"], 2, "--base nowhere holds no finished evaluation"),
        (["--videos", "empty", "--output", "x"], 1, "Folder empty holds no mp4 file"),
        (["--videos", "broken", "--output", "x"], 1, "None of 1 videos can be read"),
    ],
)
def test_bad_input_is_one_sentence(arguments, code, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a-0.mp4").write_bytes(b"no video")
    assert command(monkeypatch, *arguments) == code
    said = capsys.readouterr().err
    assert sentence in " ".join(said.split()) and "Traceback" not in said


def test_corrupt_and_missing_videos_are_one_sentence_each(tmp_path, monkeypatch, suite, capsys):
    """Of the small suite's six prompts, three have no video, and one of the others' is cut short."""
    folder = tmp_path / "videos"
    for row in ROWS[2:5]:
        noise(folder / f"{row['prompt_en']}-0.mp4")
    cut = folder / f"{ROWS[4]['prompt_en']}-0.mp4"
    cut.write_bytes(cut.read_bytes()[:2000])
    arguments = ["--videos", folder, "--official", "true", "--videos_per_prompt", 1, "--output", tmp_path / "out"]
    assert command(monkeypatch, *arguments) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{cut.name} was left out: " in said and "Traceback" not in said
    assert "4 of 6 videos of the suite are missing or unreadable, e.g. " in said and "of those that are there" in said
    problems = json.loads((tmp_path / "out" / "results.json").read_text())["problems"]
    assert len(problems) == 2 and all(problem in said for problem in problems)


@real
@pytest.mark.slow
def test_what_can_be_scored_is_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    folder = tmp_path / "videos"
    paths = [noise(folder / f"a wall-{index}.mp4", seed=index) for index in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:2000])
    arguments = ["--videos", folder, "--dimensions", "[temporal_flickering, scene]", "--output", tmp_path / "out"]
    assert command(monkeypatch, *arguments) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "a wall-1.mp4 was left out: " in said and "Not scored: scene: " in said and "Traceback" not in said
    found = json.loads((tmp_path / "out" / "results.json").read_text())["dimensions"]
    assert 0.5 < found["temporal_flickering"]["raw"] < 1 and found["temporal_flickering"]["videos"] == 2


def test_without_a_suite_a_generator_is_not_drawn(tmp_path, monkeypatch, shipped_generator, capsys):
    monkeypatch.setenv("VIDEODUET_VBENCH", str(tmp_path / "none"))
    assert command(monkeypatch, "--generator", shipped_generator, "--output", tmp_path / "out") == 1
    assert "run: python -m pipelines.setup_vbench" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def results(shift: float = 0.0, prompts: int = 8, videos: int = 5) -> dict[str, DimensionResult]:
    """Scores of all dimensions; ``shift`` is added to every video's."""
    random = np.random.default_rng(1)
    found = {}
    for name in DIMENSIONS:
        scored = [
            ScoredVideo(f"<b>{prompt}</b>", index, float(random.uniform(0.2, 0.7)) + shift, 1)
            for prompt in range(prompts)
            for index in range(videos)
        ]
        found[name] = DimensionResult(name, float(np.mean([video.result for video in scored])), scored)
    return found


def test_figures_have_intervals_totals_and_gains(tmp_path):
    made = {"name": "base", "base": None, "problems": [], "made_with": {"seed": "0"}}
    base = {**made, **summarise(results(), complete=True, resamples=400)}
    save(tmp_path / "base", base, results())
    better = results(shift=0.05)
    ours = {
        **made, "base": "base", "name": "<script>",
        **summarise(better, complete=True, resamples=400, base=read_base(tmp_path / "base")),
    }  # fmt: skip
    save(tmp_path / "ours", ours, better)
    write_page(tmp_path / "ours", ours)
    assert ours["no_total"] is None
    expected = aggregate({name: result.raw for name, result in better.items()})
    for name, figures in ours["totals"].items():
        assert figures["score"] == pytest.approx(expected[name])
        assert figures["interval"][0] < figures["score"] < figures["interval"][1]
        assert figures["gain"] == pytest.approx(expected[name] - base["totals"][name]["score"])
        assert figures["gain_interval"] == pytest.approx([figures["gain"]] * 2), "paired: the same for every prompt"
    for figures in ours["dimensions"].values():
        assert figures["raw_interval"][0] < figures["raw"] < figures["raw_interval"][1]
        assert figures["gain"] == pytest.approx(0.05) and figures["prompts"] == 8 and figures["videos"] == 40
    page = (tmp_path / "ours" / "results.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "T2V-Turbo" in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    with open(tmp_path / "ours" / "results.csv", newline="") as file:
        rows = {row["score"]: row for row in csv.DictReader(file)}
    assert float(rows["total"]["normalised"]) == ours["totals"]["total"]["score"] and len(rows) == 19


def test_no_total_for_a_subset_and_a_reason_in_every_file(tmp_path):
    found = results()
    found["scene"] = DimensionResult("scene", not_scored="no weights here")
    summary = {"name": "x", "base": None, "problems": ["a warning"], "made_with": {},
               **summarise(found, complete=True, resamples=50)}  # fmt: skip
    save(tmp_path, summary, found)
    write_page(tmp_path, summary)
    assert summary["totals"] == {} and "scene" in summary["no_total"]
    for name in ("results.json", "results.csv", "results.html"):
        text = (tmp_path / name).read_text()
        assert "no weights here" in text and "an official total needs all 16 dimensions" in text
    assert "five videos" in summarise(results(), complete=False, resamples=0)["no_total"]


def test_ten_thousand_videos_take_seconds_and_little_memory(tmp_path, monkeypatch):
    """Enumeration, the check of what is there on resumption, and aggregation with intervals."""
    rows = [{"prompt_en": f"prompt {number}", "dimension": [name]} for name in DIMENSIONS for number in range(125)]
    (tmp_path / "suite.json").write_text(json.dumps(rows))
    (tmp_path / "videos").mkdir()
    videos = suite_videos(read_suite(tmp_path / "suite.json"), 80, 80)
    assert len(videos) == 10_000
    cache = {}
    for video in videos:
        path = tmp_path / "videos" / video.name
        path.write_bytes(b"x")
        status = path.stat()
        cache[str(path)] = [f"{status.st_size}-{status.st_mtime_ns}", 16]
    (tmp_path / "checked.json").write_text(json.dumps(cache))
    from evaluation.vbench.suite import read_folder

    tracemalloc.start()
    started = time.process_time()
    suite_videos(read_suite(tmp_path / "suite.json"), 80, 80)
    good, bad = readable(read_folder(tmp_path / "videos")[0], tmp_path / "checked.json")
    found = {
        name: DimensionResult(name, 0.5, [ScoredVideo(v.file.prompt, v.file.index, 0.5, 1) for v in good])
        for name in ("temporal_flickering", "dynamic_degree")
    }
    summary = summarise(found, complete=False, resamples=1000)
    seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(good) == 10_000 and not bad and summary["dimensions"]["dynamic_degree"]["raw_interval"] == (0.5, 0.5)
    assert seconds < 15 and peak < 100 * 2**20, (seconds, peak)


def test_setup_lists_weights_offline(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "400")
    setup(["--list-weights"])
    said = capsys.readouterr().err
    assert "raft_model/models/raft-things.pth" in said and "ViCLIP/ViClip-InternVid-10M-FLT.pth" in said
    with pytest.raises(SystemExit) as stop:
        setup(["--tier", "huge"])
    assert stop.value.code == 2


@real
@pytest.mark.slow
def test_the_whole_command_on_a_generator(tmp_path, monkeypatch, shipped_generator, capsys):
    """The real suite's prompts, the real package: two prompts of temporal flickering, base and a second seed."""
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    arguments = ["--generator", shipped_generator, "--dimensions", "[temporal_flickering, dynamic_degree]",
                 "--prompts_per_dimension", 2, "--videos_per_prompt", 2, "--flickering_videos", 3,
                 "--sampler.steps", 1, "--sampler.num_frames", 4]  # fmt: skip
    assert command(monkeypatch, *arguments, "--output", tmp_path / "base") == 0
    assert command(monkeypatch, *arguments, "--output", tmp_path / "out", "--seed", 1, "--base", tmp_path / "base") == 0
    figures = json.loads((tmp_path / "out" / "results.json").read_text())
    flickering = figures["dimensions"]["temporal_flickering"]
    assert 0.5 < flickering["raw"] <= 1 and flickering["videos"] == 4 and "gain" in flickering
    assert "raft-things.pth" in figures["dimensions"]["dynamic_degree"]["not_scored"]
    assert sorted(os.listdir(tmp_path / "out" / "videos"))[0].endswith(".mp4")

"""What the benchmarks of the judge that rates in numbers measure with."""

import numpy as np
import pytest

from benchmarks import first_pass
from benchmarks.aigv_assessor import Rated, _beside, _pairs
from benchmarks.first_pass import beside
from reward_model.presets import ASSESSED
from shapes_world.judge_data import DamagedClip
from shapes_world.world import all_scenes
from videoduet.records import Comparison, OrderVerdict, Prompt, Video, VideoPair


def rated(name: str, *values: float) -> Rated:
    clip = DamagedClip(np.zeros((1, 2, 2, 3), np.uint8), all_scenes()[0], 1.0, 1.0)
    return Rated(name, "a prompt", clip, dict(zip(ASSESSED, values, strict=True)))


def test_pairs_are_of_one_prompt_and_ties_are_close():
    clips = [rated("test/0000_0.mp4", 10, 50, 40, 0), rated("test/0000_1.mp4", 60, 50.5, 90, 0),
             rated("test/0001_0.mp4", 1, 1, 1, 1)]  # fmt: skip
    header, *rows = _pairs(clips)
    assert header[3:] == list(ASSESSED)
    assert rows == [["test/0000_0.mp4", "test/0000_1.mp4", "a prompt", "second", "tie", "second", "tie"]]


def test_networks_are_held_against_scores_pair_by_pair():
    told = _beside({"networks": [1.0, 1.0, 1.0, 0.0], "scores": [1.0, 0.0, 1.0, 0.0]})
    assert (told["networks"], told["scores"], told["networks - scores"]) == (0.75, 0.5, 0.25)
    assert told["interval"][0] <= 0.25 <= told["interval"][1]


def test_the_same_best_and_worst():
    prompt = Prompt.of("a")
    videos = [Video(id=name, path=f"/{name}") for name in "abc"]

    def said(first: int, second: int, verdict: str) -> Comparison:
        asked = VideoPair(prompt=prompt, first=videos[first], second=videos[second])
        return Comparison.of(asked, "j", OrderVerdict(text="", verdict=verdict))

    full = [said(0, 1, "first"), said(0, 2, "first"), said(1, 2, "first")]
    assert beside(full, full) == {"best": 1, "worst": 1, "both": 1}
    other = [said(0, 1, "first"), said(0, 2, "first"), said(1, 2, "second")]
    assert beside(full, other) == pytest.approx({"best": 1, "worst": 0, "both": 0})


def test_what_a_score_in_numbers_saves_falls_with_the_batch():
    found = [first_pass.counted(batch, 416) for batch in (1, 4, 32, 128)]
    assert found == sorted(found, reverse=True) and found[0] > 10 > found[2] > 1
    assert first_pass.counted(1, 0) == 1


def test_both_judges_are_rated_in_the_batch_that_takes_least(monkeypatch, capsys):
    """The rates themselves are stand-ins."""
    takes = {"numbers": {16: 3.0, 64: 2.0, 256: 4.0}, "words": {16: 9.0, 64: 8.0, 256: 7.0}}
    monkeypatch.setattr(first_pass, "rate", lambda judge, shown: {"a second": 1000 / judge, "core ms": judge})
    monkeypatch.setattr(first_pass, "scorer_at", lambda path, batch_size: takes["numbers"][batch_size])
    monkeypatch.setattr(first_pass, "talking", lambda path, tokens, batch_size: takes["words"][batch_size])
    monkeypatch.setattr(first_pass, "seeing", lambda judge, shown: {"a second": 1000.0, "core ms": 1.0})
    told = first_pass.rated("judge", {Prompt.of("a"): [Video(id="a", path="/a")]}, 416)
    assert (told["in numbers"]["batch"], told["in 416 tokens of words"]["batch"]) == (64, 256)
    assert told["ratios"] == pytest.approx({"wall": 3.5, "cores": 3.5, "bound": 7.0})
    assert "3.5 times as fast in numbers" in " ".join("".join(capsys.readouterr()).split())

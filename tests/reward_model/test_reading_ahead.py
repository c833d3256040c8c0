"""Videos are decoded while the model answers: as many as may be, in their turn, with the answers of before."""

import itertools
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_judge import SMALL_PROMPT, pair

from reward_model import encoding, reading_ahead
from reward_model.judging import local
from reward_model.judging.base import Failure
from reward_model.judging.local import Judge
from reward_model.reading_ahead import ReadAhead, looked_ahead
from videoduet.errors import InputError
from videoduet.video import Clip


def clip(path: str) -> Clip:
    return Clip(np.zeros((1, 1, 1, 3), np.uint8), np.zeros(1), float(len(path)))


def test_what_is_expected_is_read_and_never_more_than_may_wait(monkeypatch):
    read = []
    monkeypatch.setattr(reading_ahead, "AHEAD", 3)
    monkeypatch.setattr(reading_ahead, "cores", lambda: 2)
    ahead = ReadAhead(lambda path: (read.append(path), clip(path))[1])
    names = [f"{'a' * number}" for number in range(1, 9)]
    for name in [*names, *names]:
        ahead.expect(name)
    for number, name in enumerate(names, 1):
        assert ahead.take(name).fps == number
        assert len(read) <= number + 3
    assert read == names
    # What nobody expected is read in place, and what nobody wants makes room.
    for name in ("vain1", "vain2", "vain3", "wanted"):
        ahead.expect(name)
    assert ahead.take("unexpected").fps == 10 and ahead.take("wanted").fps == 6
    ahead.forget()
    assert not ahead._begun and not ahead._expected


def test_what_cannot_be_read_is_told_to_who_wants_it(monkeypatch):
    def broken(path):
        raise InputError(f"{path} is broken")

    ahead = ReadAhead(broken)
    ahead.expect("a")
    for _ in range(2):
        with pytest.raises(InputError, match="a is broken"):
            ahead.take("a")


def test_a_file_that_was_written_anew_is_read_again(tmp_path):
    ahead, path = ReadAhead(lambda path: clip(Path(path).read_text())), tmp_path / "a"
    path.write_text("old")
    ahead.expect(str(path))
    path.write_text("newer")
    assert ahead.take(str(path)).fps == 5


def test_a_wrong_question_is_told_in_its_turn():
    question = SMALL_PROMPT.compare("a", "one.mp4", "two.mp4")

    class Shower:
        def __init__(self):
            self.told = []

        def expect(self, path):
            self.told.append(path)

    def questions():
        for number in range(3):
            yield replace(question, sample=number, clips={"two.mp4": clip("a")})
        raise InputError("the fourth is wrong")

    shower = Shower()
    coming = looked_ahead(questions(), 10, lambda view: shower)
    assert next(coming).sample == 0 and shower.told == ["one.mp4"] * 3
    assert [next(coming).sample for _ in range(2)] == [1, 2]
    with pytest.raises(InputError, match="the fourth is wrong"):
        next(coming)


def a_judge(judge) -> Judge:
    return Judge(judge.model, judge.processor, judge.prompts, judge_id="x", batch_size=2)


def test_the_next_videos_are_decoded_while_the_model_answers(small, judge, monkeypatch):
    """The model waits with its first answers until a video is decoded that only later questions show."""
    monkeypatch.setattr(local, "BATCHES_AHEAD", 1)
    decoded, read, generated, paths = threading.Event(), encoding.read_video, Judge._generated, []
    pairs = [pair(small.videos, "red", "green"), pair(small.videos, "blue", "wide")]

    def noted(path, *arguments):
        paths.append(path)
        if path == small.videos["wide"].path:
            decoded.set()
        return read(path, *arguments)

    def late(judge, showings, *arguments):
        assert decoded.wait(20), "nothing is decoded while the model answers"
        return generated(judge, showings, *arguments)

    monkeypatch.setattr(encoding, "read_video", noted)
    monkeypatch.setattr(Judge, "_generated", late)
    assert [c.second_id for c in a_judge(judge).compare(pairs)] == ["green", "wide"]
    assert sorted(paths) == sorted({video.path for each in pairs for video in (each.first, each.second)})


def test_answers_and_failures_are_those_without(small, judge, monkeypatch, not_a_video):
    names = list(small.videos)[:4]
    given = [(small.videos[a].path, small.videos[b].path) for a, b in itertools.permutations(names, 2)]
    given[3] = (given[3][0], not_a_video)

    def judged():
        failures: list[Failure] = []
        return list(a_judge(judge).compare(given, failures=failures)), [failure.reason for failure in failures]

    monkeypatch.setattr(local, "BATCHES_AHEAD", 2)
    ahead = judged()
    assert len(ahead[0]) == 11 and len(ahead[1]) == 1
    monkeypatch.setattr(local, "looked_ahead", lambda questions, number, shower: iter(questions))
    assert judged() == ahead

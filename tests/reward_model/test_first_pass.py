"""A judge that scores goes first: what it tells, what is asked of the other, and what comes out in which order."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from alignment.preferences.pairs import PairConfig
from pipelines.loop.judge_config import JudgeConfig
from pipelines.loop.rank import keep_to_first, selected
from reward_model.judging.base import Failure
from reward_model.judging.batch import ask_groups
from reward_model.judging.config import JudgingConfig
from reward_model.judging.first_pass import FirstPassJudge, Told
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, Prompt, Video, VideoPair, VideoScore
from videoduet.video import write_video

PROMPT = Prompt.of("a red circle")


class Scores:
    """Scores a video by its name; "bad" cannot be scored."""

    judge_id = "scores"

    def __init__(self):
        self.seen: list[str] = []

    def score(self, videos, *, failures=None) -> Iterator[VideoScore]:
        for video, prompt in videos:
            name = video.path.rpartition("/")[2].removesuffix(".mp4")
            if name == "bad":
                failures.append(Failure(video, "cannot be read"))
                continue
            self.seen.append(name)
            yield VideoScore(video_id=video.id, prompt_id=prompt.id, judge_id="scores", text="", score=float(name))

    def margin(self, sure: float) -> float:
        return {0.95: 10.0, 0.5: 3.0}[sure]


class Asked:
    """Says that the first is better; lists pairs with "bad"."""

    judge_id = "asked"

    def __init__(self):
        self.pairs: list[tuple[str, str]] = []

    def compare(self, pairs: Iterable[VideoPair], *, failures=None) -> Iterator[Comparison]:
        for pair in pairs:
            self.pairs.append((pair.first.id, pair.second.id))
            if "bad" in pair.first.path + pair.second.path:
                failures.append(Failure(pair, "cannot be read"))
                continue
            yield Comparison.of(pair, "asked", OrderVerdict(text="1", verdict="first"))


def pair(first: str, second: str) -> VideoPair:
    one, other = (Video(id=name, path=f"/{name}.mp4") for name in (first, second))
    return VideoPair(prompt=PROMPT, first=one, second=other)


def test_only_what_is_close_is_asked():
    scores, asked = Scores(), Asked()
    judge = FirstPassJudge(scores, lambda: asked)
    found = list(judge.compare([pair("10", "90"), pair("80", "71"), pair("30", "10"), pair("70", "80")]))
    assert [(c.first_id, c.second_id) for c in found] == [("10", "90"), ("80", "71"), ("30", "10"), ("70", "80")]
    assert [c.judge_id for c in found] == ["scores", "asked", "scores", "asked"] and len(asked.pairs) == 2
    assert [c.preferred_id for c in found] == ["90", "80", "30", "70"]
    assert found[0].p_first == pytest.approx(0.025) and found[2].status == "decided"
    assert sorted(scores.seen) == ["10", "30", "70", "71", "80", "90"], "each is scored once"
    assert (judge.told.scored, judge.told.told, judge.told.asked) == (6, 2, 2) and judge.told.saved is not None
    sure = FirstPassJudge(Scores(), lambda: pytest.fail("loaded"), 0.5)
    assert len(list(sure.compare([pair("80", "71")]))) == 1, "who tells all loads no other judge"
    assert "1 of 1 pairs told" in f"{sure.told}" and Told().saved is None


def test_what_cannot_be_scored_is_left_to_the_other_and_keeps_the_order():
    failures: list[Failure] = []
    judge = FirstPassJudge(Scores(), Asked)
    asked = [pair("bad", "90"), pair("10", "90"), pair("80", "79"), pair("20", "bad"), pair("1", "2")]
    found = list(judge.compare(asked, failures=failures))
    assert [(c.first_id, c.second_id) for c in found] == [("10", "90"), ("80", "79"), ("1", "2")]
    assert [failure.given for failure in failures] == [asked[0], asked[3]]


def test_a_ranking_says_whose_comparisons_it_is_made_of(tmp_path, capsys):
    for name in ("10", "12", "90"):
        write_video(tmp_path / f"{name}.mp4", np.full((4, 32, 32, 3), int(name), np.uint8), 8)
    asked = Asked()
    group = [(str(tmp_path / f"{name}.mp4"), "a") for name in ("10", "12", "90")]
    failures: list[Failure] = []
    rows = ask_groups(None, Scores)(asked, [group], failures)
    assert [row["judge_id"] for row in rows] == ["asked", "scores", "scores"] and not failures
    assert "2 of 3 pairs told" in " ".join(capsys.readouterr().err.split())
    comparisons = list(FirstPassJudge(Scores(), Asked).compare([pair("10", "90"), pair("80", "71")]))
    summary, _ = selected(comparisons, dict.fromkeys(("10", "90", "80", "71"), 0), PairConfig())
    assert summary.judges == {"asked": 1, "scores": 1}


def test_a_judge_of_numbers_may_judge_the_loop():
    assert JudgeConfig(preset="aigv-assessor", path="x", first_pass="y").first_pass_sure == 0.95
    with pytest.raises(InputError, match="made to score single videos"):
        JudgeConfig(preset="vqathinker")


def test_a_certainty_that_is_never_calibrated_is_refused_at_once():
    with pytest.raises(InputError, match="judge.first_pass_sure is 0.93; give one of 0.5, 0.6"):
        JudgeConfig(path="judge", first_pass="scorer", first_pass_sure=0.93)
    with pytest.raises(InputError, match="first_pass_sure is 0.93"):
        JudgingConfig(first_pass_sure=0.93)


def test_who_goes_first_is_written_down(tmp_path):
    """A ranking that another scorer has begun is not gone on with."""
    judge = FirstPassJudge(Scores(), Asked)
    keep_to_first(judge, tmp_path)
    keep_to_first(judge, tmp_path)
    other = Scores()
    other.judge_id = "trained anew"
    with pytest.raises(InputError, match=r"begun with another judge.first_pass \(scores, and it is trained anew\)"):
        keep_to_first(FirstPassJudge(other, Asked), tmp_path)

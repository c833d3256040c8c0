"""The audit of a judge finds the defects that it is there to find, and none in a sound judge that errs now and then."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.flawed_judges import FLAWS, Coin, Oracle, PromptBlind, TextObeying, frames_of
from pipelines.report.audit import write_card
from reward_model import PRESETS
from reward_model.judging.audit import audit, plan
from reward_model.judging.audit.alterations import ALTERATIONS, BRIBES, TIME
from reward_model.judging.audit.card import PROBES, AuditCard, Measure, Probe
from reward_model.judging.audit.config import CLIPS as CLIPS_BY_DEFAULT
from reward_model.judging.audit.material import Material
from reward_model.judging.audit.people import read_votes
from reward_model.judging.audit.significance import holm, measured, verdicts
from reward_model.judging.audit.thoughts import conclusion, lengths, thought
from reward_model.judging.base import Answer, VideoJudge
from shapes_world.audited import audit_clips
from shapes_world.world import Scene, render
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict
from videoduet.video import read_video, write_video

CLIPS = 6


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A card on few clips, whose versions are written once for all judges: ``few(judge)``."""
    folder = tmp_path_factory.mktemp("audit")
    return lambda judge, **options: audit(judge, audit_clips(CLIPS), folder=folder, **options)


@pytest.fixture(scope="module")
def sound(few):
    return few(Oracle())


@pytest.fixture(scope="module")
def obeying(few):
    return few(TextObeying())


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAWS)
def test_each_defect_is_found_by_the_probe_that_names_it(name, tmp_path_factory):
    kind, probe = FLAWS[name]
    place = tmp_path_factory.getbasetemp() / "audited"
    assert audit(kind(3), audit_clips(32, 3), seed=3, folder=place).probes[probe].verdict == "failed"


@pytest.mark.slow
def test_a_sound_judge_that_errs_fails_nothing(tmp_path_factory):
    place = tmp_path_factory.getbasetemp() / "audited"
    assert audit(Oracle(3, wrong=0.1), audit_clips(32, 3), seed=3, folder=place).passed()


def test_a_sound_judge_fails_nothing_on_few_clips(sound):
    assert sound.passed() and tuple(sound.probes) == PROBES
    assert sound.probes["reads_prompt"].worst.value == sound.probes["sees_time"].worst.value == 1
    none = ("means_what_it_says", "agrees_with_people")
    assert {sound.probes[name].verdict for name in none} == {"does_not_apply"}
    assert not sound.passed(["agrees_with_people"]), "what does not apply has not passed"


def test_of_videos_that_may_not_fit_it_is_asked_whether_the_prompt_matters(few):
    sound, blind = (few(judge, names=["reads_prompt"], fits=False) for judge in (Oracle(), PromptBlind()))
    probe = sound.probes["reads_prompt"]
    assert probe.verdict == "passed" and probe.worst.name == "preference_moves" and not probe.cases
    assert blind.probes["reads_prompt"].verdict == "failed" and blind.probes["reads_prompt"].worst.value == 0


@pytest.mark.parametrize("name", ["always first", "motion-blind", "saturation-lover", "still-lover"])
def test_plain_defects_are_found_on_few_clips(name, few):
    kind, probe = FLAWS[name]
    found = few(kind()).probes[probe]
    assert found.verdict == "failed" and not found.worst.within


def test_a_judge_that_obeys_words_is_bribed_by_nothing_else(obeying):
    bribes = {measure.name: measure for measure in obeying.probes["not_bribed"].measures}
    assert bribes["words"].value > 0.9
    assert {name for name, measure in bribes.items() if measure.value > 0.3} == {"words"}


def test_a_coin_repeats_nothing(few):
    measures = {measure.name: measure.value for measure in few(Coin()).probes["repeatable"].measures}
    assert 0.2 < measures["changed_when_asked_again"] < 0.8
    assert abs(measures["changed_by_company"]) < 0.4, "it is no worse in company"


class Overwhelmed(Oracle):
    """Says nothing of a video that is larger than others."""

    def said(self, prompt, first, second):
        if max(frames_of(video.path).shape[1] for video in (first, second)) > 32:
            return OrderVerdict(text="too large", verdict=None)
        return super().said(prompt, first, second)


def test_what_is_not_answered_of_bribes_counts_too(few):
    card = few(Overwhelmed())
    (unreadable,) = (one for one in card.probes["answers"].measures if one.name == "unreadable")
    assert 0.03 < unreadable.value < 0.1
    assert "resolution" not in {measure.name for measure in card.probes["not_bribed"].measures}


class Once:
    """The oracle, asked in one order only."""

    def compare(self, pairs):
        for one in Oracle().compare(pairs):
            yield replace(one, backward=None)


def test_a_judge_that_shows_pairs_once_is_asked_both_ways(few, sound):
    assert few(Once()).probes["order"] == sound.probes["order"]


def test_votes_of_people(few, tmp_path):
    rows = []
    for number, speed in enumerate(("slowly", "fast")):
        prompt = f"a red circle moving left {speed} on a black background"
        for name, seen in (("good", prompt), ("bad", prompt.replace("red circle", "blue square"))):
            write_video(tmp_path / f"{name}{number}.mp4", render(seen, number), 8)
        rows += [
            f"good{number}.mp4,bad{number}.mp4,{prompt},first",
            f"bad{number}.mp4,good{number}.mp4,{prompt},second",
        ]
    (tmp_path / "votes.csv").write_text("\n".join(["first,second,prompt,preferred", *rows]))
    probe = few(Oracle(), votes=read_votes(tmp_path / "votes.csv")).probes["agrees_with_people"]
    assert {measure.name: measure.value for measure in probe.measures} == {"diff": 1.0, "tau": 1.0}
    (tmp_path / "votes.csv").write_text("first,second,prompt,preferred\ngood0.mp4,bad0.mp4,x,good\n")
    with pytest.raises(InputError, match=r"row 1: preferred is 'good'; give first, second or tie"):
        read_votes(tmp_path / "votes.csv")


class Silent(VideoJudge):
    """Says nothing."""

    def __init__(self):
        super().__init__(PRESETS["general"].prompts, judge_id="silent")

    def answer(self, questions):
        for _ in questions:
            yield Answer(error="the server is away", lost=True)


class Unreadable:
    """Says nothing that can be read."""

    def compare(self, pairs):
        said = OrderVerdict(text="hm", verdict=None)
        return (Comparison.of(pair, "hm", said, said) for pair in pairs)


@pytest.mark.parametrize(("judge", "why"), [(Silent(), " .*the server is away"), (Unreadable(), "")])
def test_a_judge_that_answers_nothing(judge, why, few):
    with pytest.raises(InputError, match=rf"answered none of \d+ questions{why}"):
        few(judge)


def test_one_video_only(tmp_path):
    clip, prompt = audit_clips(1)[0]
    with pytest.raises(InputError, match="one video only; an audit compares videos"):
        audit(Oracle(), [(clip, prompt), (clip, prompt)], folder=tmp_path)


class Contrasted:
    """Prefers contrast, and asks for no prompt."""

    def compare(self, pairs):
        for pair in pairs:
            larger = frames_of(pair.first.path).std() > frames_of(pair.second.path).std()
            forward, backward = ("first", "second") if larger else ("second", "first")
            said = (OrderVerdict(text="", verdict=verdict) for verdict in (forward, backward))
            yield Comparison.of(pair, "contrasted", next(said), next(said))


def test_without_prompts_nothing_is_said_of_reading_them(tmp_path):
    probe = audit(Contrasted(), [clip for clip, _ in audit_clips(2)], folder=tmp_path).probes["reads_prompt"]
    assert (probe.verdict, probe.reason) == ("does_not_apply", "the videos have no two prompts")


def test_clips_that_stand_still_tell_nothing_of_time(tmp_path):
    still = [(np.repeat(clip[:1], 8, 0), prompt) for clip, prompt in audit_clips(2)]
    card = audit(Oracle(), still, folder=tmp_path)
    assert {card.probes[name].verdict for name in ("sees_time", "not_still")} == {"does_not_apply"}


def test_the_codec_does_not_tell_orders_apart(tmp_path):
    (frames, _), _ = clips = audit_clips(2)
    material = Material(clips, tmp_path, 2)
    plain, shuffled = (
        read_video(material.version(material.clips[0], *names).path).frames for names in ((), ("shuffled",))
    )
    assert sorted(frame.tobytes() for frame in plain) == sorted(frame.tobytes() for frame in shuffled)
    assert abs(plain.astype(int) - frames).max() <= 2


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations_change_videos_of_any_size(name):
    rng = np.random.default_rng(0)
    for shape in ((8, 32, 32, 3), (5, 50, 90, 3)):
        frames = rng.integers(0, 256, shape, dtype=np.uint8)
        changed = ALTERATIONS[name](frames.copy(), np.random.default_rng(1))
        assert changed.dtype == np.uint8 and changed.ndim == 4 and changed.shape[-1] == 3
        assert changed.shape != frames.shape or (changed != frames).any()


def test_time_is_spoilt_without_touching_a_picture():
    frames = render(Scene("red", "circle", "left", "fast", "black").prompt, 0)
    for name in TIME:
        spoilt = TIME[name](frames, np.random.default_rng(0))
        assert {frame.tobytes() for frame in spoilt} <= {frame.tobytes() for frame in frames}
    assert BRIBES["resolution"](frames, np.random.default_rng(0)).shape == (8, 64, 64, 3)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Video 1 is blurred. So the second video is better.", "second"),
        ("1 red circle total 28 ; 2 blue square total 30", "second"),
        ("Both are fine.", None),
        ("Video A: score 7.5. Video B: score 7.", "first"),
    ],
)
def test_what_a_thought_speaks_for(text, spoken):
    assert conclusion(text) == spoken


def test_how_much_a_thought_says_of_each():
    assert lengths("Video 1 is sharp. It moves well. Video 2 flickers.") == (7, 3)
    assert lengths("1 red yes ; 2 blue no no") == (3, 4)
    assert thought("<think> hm </think><answer>1</answer>") == "hm" and thought("<answer>1</answer>") is None


def test_figures_count_prompts_not_videos():
    many = measured("x", [("one", 1.0)] * 50 + [("other", 0.0)] * 50, least=0.9)
    assert (many.n, many.value) == (2, 0.5) and many.p > 0.05
    assert measured("x", []) is None
    alike = measured("x", [(str(i), 0.0) for i in range(4)], least=0.65)
    assert 0.001 < alike.p < 0.05 and alike.high > 0.4, "four that agree are no certainty"


def test_prompts_that_all_agree_reach_as_far_as_their_number_bears():
    """A perfect judge passes on as many clips as an audit has by default; of few it is in doubt."""
    many, few = (measured("x", [(str(i), 0.0) for i in range(count)], most=0.1) for count in (CLIPS_BY_DEFAULT, 8))
    assert many.low == 0 and many.within and not few.within
    middle = measured("x", [(str(i), 0.5) for i in range(16)], least=0.35, most=0.65)
    assert middle.within and middle.high - 0.5 == pytest.approx((1 - 0.05 ** (1 / 16)) / 2)
    signed = measured("x", [(str(i), 0.0) for i in range(32)], signed=True)
    assert signed.low == pytest.approx(-signed.high)


def test_figures_at_their_margin_seldom_fail():
    draws = np.random.default_rng(0).random((400, 32)) < 0.65
    found = [measured("x", [(str(i), float(v)) for i, v in enumerate(row)], least=0.65) for row in draws]
    assert np.mean([one.p < 0.05 for one in found]) < 0.08


def test_holm():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a"}
    assert holm({"a": 0.01, "b": 0.02, "c": 0.03}) == {"a", "b", "c"}


def test_verdicts():
    def one(p, low, high):
        return Measure(name="x", value=(low + high) / 2, low=low, high=high, n=9, least=0.65, p=p)

    measures = {"a": [one(1, 0.7, 1)], "b": [one(1e-6, 0, 0.2)], "c": [one(0.4, 0.5, 0.8)], "d": []}
    assert verdicts(measures) == {"a": "passed", "b": "failed", "c": "cannot_tell"}


def test_an_unknown_probe():
    with pytest.raises(InputError, match="no probe ordr; there are order, cycles"):
        AuditCard(probes={}).passed(["ordr"])


def test_the_plan_is_an_upper_bound(sound):
    needed = plan(CLIPS)["pairs"]
    assert 0.9 * needed <= sound.questions <= needed


def test_the_page_plays_what_went_wrong(obeying, tmp_path):
    page = write_card(tmp_path, obeying).read_text()
    cases = json.loads((tmp_path / "card.json").read_text())["probes"]["not_bribed"]["cases"]
    assert cases and all(Path(case["other"]).parent == tmp_path / "clips" for case in cases)
    assert all(Path(case["better"]).is_file() for case in cases)
    assert page.count("data:image/webp") >= 2 * len(cases) and "No preview" not in page
    hostile = replace(obeying, probes={"order": Probe(name="<b>", changed="", sound="", verdict="passed")})
    assert "<b>" not in write_card(tmp_path / "again", hostile).read_text()

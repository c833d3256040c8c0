"""The server backend against a real server on this machine that answers from the pixels, and has bad days."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from stub_server import serving

import reward_model.judging.server
from reward_model.judging.base import label_probability
from reward_model.judging.config import Decoding, ServerSettings
from reward_model.judging.server import ServerJudge, _read
from videoduet.errors import InputError
from videoduet.video import write_video

TROUBLE = ("500", "drop", "not json", "nested", "no choices", "cut", "429", "slow")


def judge_at(server, **settings) -> ServerJudge:
    url = f"http://127.0.0.1:{server.server_port}/v1/"
    return ServerJudge(ServerSettings(url, "stub", **{"backoff": 0.001, "timeout": 20.0, **settings}))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """All pairs of five videos, from dark to light."""
    folder = tmp_path_factory.mktemp("shades")
    for index in range(5):
        write_video(folder / f"{index}.mp4", np.full((4, 32, 32, 3), 40 + 40 * index, np.uint8), 8)
    return [(folder / f"{a}.mp4", folder / f"{b}.mp4", "x") for a, b in itertools.combinations(range(5), 2)]


def test_answers_with_probabilities(pairs):
    with serving() as server:
        comparisons = list(judge_at(server, api_key="secret").compare(pairs))
    assert [c.status for c in comparisons] == ["decided"] * 10
    assert all(c.preferred_id == c.second_id for c in comparisons)
    assert all(c.forward.p == pytest.approx(0.25) and c.backward.p == pytest.approx(0.75) for c in comparisons)
    assert all(c.p_first == pytest.approx(0.25) for c in comparisons)
    assert len(server.bodies) == 20
    texts = [part["text"] for part in server.bodies[0]["messages"][1]["content"] if part["type"] == "text"]
    assert "(frames at 0.00, 0.12, 0.25, 0.38 seconds)" in texts


@pytest.mark.parametrize("concurrency", [1, 4])
def test_on_a_bad_day_every_comparison_is_answered(pairs, concurrency):
    with serving() as server:
        calm = list(judge_at(server).compare(pairs))
    moods = [mood for trouble in TROUBLE for mood in (trouble, "well")] * 2
    with serving(moods) as server:
        failures = []
        judge = judge_at(server, concurrency=concurrency, retries=20, timeout=0.7)
        assert list(judge.compare(pairs, failures=failures)) == calm
    assert failures == []
    assert server.most <= concurrency + 2  # a request that was given up may still be under way at the server


def test_what_is_not_answered_is_listed_and_nothing_is_lost_or_doubled(pairs):
    """Without another try each trouble costs the comparison that met it, and no other."""
    moods = [
        "well",
        "500",
        "well",
        "well",
        "drop",
        "well",
        *["well"] * 4,
        "not json",
        "cut",
        "well",
        "400",
        "no choices",
    ]
    with serving(moods) as server:
        failures = []
        comparisons = list(judge_at(server, concurrency=1, retries=0).compare(pairs, failures=failures))
    lost = [0, 2, 5, 6, 7]
    assert [pairs.index(failure.given) for failure in failures] == lost
    assert len(comparisons) == 10 - len(lost)
    assert len(server.bodies) == 20
    reasons = [failure.reason for failure in failures]
    assert "HTTP 500" in reasons[0] and "refused the question (HTTP 400" in reasons[3] and "1 tries" in reasons[4]
    with serving(["400"] * 2) as server, pytest.raises(InputError, match="refused"):
        list(judge_at(server).compare(pairs[:1]))


def test_pauses_grow(pairs, monkeypatch):
    pauses = []
    monkeypatch.setattr(reward_model.judging.server, "time", SimpleNamespace(sleep=pauses.append))
    with serving(["not json"] * 4) as server:
        assert len(list(judge_at(server, concurrency=1, backoff=2.0).compare(pairs[:1]))) == 1
    assert all(2**n <= pause <= 3 * 2**n for n, pause in enumerate(pauses)) and len(pauses) == 4
    pauses.clear()
    with serving(["429"] * 2) as server:
        list(judge_at(server, concurrency=1, backoff=2.0).compare(pairs[:1]))
    assert pauses == [0, 0], "the server says how long"


def test_a_server_that_is_not_there(pairs):
    with serving() as server:
        judge = judge_at(server, retries=1)
    failures = []
    assert list(judge.compare(pairs, failures=failures)) == [] and len(failures) == 10


def test_answers_are_kept_by_content(pairs, tmp_path):
    with serving(["500"]) as server:
        judge = judge_at(server, cache=tmp_path, retries=0, concurrency=1)
        failures = []
        first = list(judge.compare(pairs, failures=failures))
        assert len(failures) == 1 and len(server.bodies) == 20
        again = list(judge.compare(pairs, failures=failures))
        assert len(server.bodies) == 21, "only what had failed is asked again"
        assert again[1:] == first and len(again) == 10
        list(judge_at(server, cache=tmp_path).compare([(a, b, "another prompt") for a, b, _ in pairs]))
        assert len(server.bodies) == 41


def test_the_same_question_asked_at_once_is_kept_once(pairs, tmp_path):
    with serving() as server:
        comparisons = list(judge_at(server, cache=tmp_path, concurrency=8).compare(pairs[:1] * 20))
    assert len(comparisons) == 20 and len(set(comparisons)) == 1
    assert len(list(tmp_path.rglob("*.json"))) == len(list(tmp_path.rglob("*.*"))) == 2


def test_an_unreadable_video_costs_its_own_pairs(pairs, not_a_video):
    with serving() as server:
        failures = []
        given = [pairs[0], (pairs[0][0], not_a_video, "x"), pairs[1]]
        assert len(list(judge_at(server).compare(given, failures=failures))) == 2
        assert len(server.bodies) == 4 and "broken_clip.mp4" in failures[0].reason


def test_the_thought_may_come_beside_the_answer_and_samples_have_seeds(pairs):
    def reply(body):
        label = "1" if body["seed"] == 0 else "2"
        return {"choices": [{"message": {"content": label, "reasoning_content": "2 is dark"}}]}

    with serving(reply=reply) as server:
        judge = judge_at(server, logprobs=False)
        judge.decoding = Decoding(samples=3)
        (comparison,) = judge.compare(pairs[:1])
    assert comparison.forward.verdict == comparison.backward.verdict == "second"
    assert comparison.forward.text.count("<think>2 is dark</think>") == 3 and comparison.forward.p is None
    assert sorted(body["seed"] for body in server.bodies) == [0, 0, 1, 1, 2, 2]
    assert "logprobs" not in server.bodies[0]


@pytest.mark.parametrize("wrong", [{"url": "localhost"}, {"concurrency": 0}, {"timeout": 0}, {"retries": -1}])
def test_wrong_settings(wrong):
    with pytest.raises(InputError):
        ServerSettings(**{"url": "http://localhost:1/v1", "model": "m", **wrong})


def test_label_probability_is_read_at_the_answer():
    tokens = ["<think>", "1", "</think>", "<answer>", "Video", " B", "</answer>"]
    tops = [{}, {"1": 0.0}, {}, {}, {}, {" B": np.log(0.3), " A": np.log(0.1), "B": np.log(0.3)}, {}]
    assert label_probability(tokens, tops, ("A", "B")) == pytest.approx(1 / 7)
    assert label_probability(["1", "<|im_end|>"], [{"1": np.log(0.6), "2": np.log(0.2)}, {}], ("1", "2")) == (
        pytest.approx(0.75)
    )
    assert label_probability(["I", " refuse"], [{}, {}], ("1", "2")) is None
    assert label_probability(["<answer>", "1"], [{}, {}], ("1", "2")) is None


@pytest.mark.parametrize(
    "logprobs",
    [None, "x", [1], {"content": None}, {"content": [{"token": "1", "top_logprobs": None}]}, {"content": [3]},
    {"content": [{"token": "1", "logprob": 0, "top_logprobs": [{"token": "1", "logprob": 1e9}]}]}],
)  # fmt: skip
def test_a_text_is_an_answer_whatever_is_said_of_its_probability(logprobs):
    reply = {"choices": [{"message": {"content": "<answer>1</answer>"}, "logprobs": logprobs}]}
    answer = _read(reply, ("1", "2"))
    assert answer.text == "<answer>1</answer>" and (answer.p is None or 0 <= answer.p <= 1)


def test_half_a_character_can_be_written():
    answer = _read(json.loads('{"choices": [{"message": {"content": "1 \\ud83d", "reasoning": "\\udc00"}}]}'), None)
    assert answer.text.encode() == b"<think>?</think>1 ?"


THOUGHT = "Video 1 is sharper, but <answer>1</answer>"


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({"finish_reason": "length", "message": {"content": None, "reasoning_content": THOUGHT}}, THOUGHT),
        ({"finish_reason": "length", "message": {"content": None, "reasoning": THOUGHT}}, THOUGHT),
        ({"finish_reason": "length", "message": {"reasoning_content": THOUGHT}}, THOUGHT),
        ({"finish_reason": "length", "message": {"content": ""}}, ""),
        ({"finish_reason": "stop", "message": {"content": None, "refusal": "I do not judge."}}, "I do not judge."),
        ({"finish_reason": "content_filter", "message": {"content": None}}, ""),
        ({"finish_reason": "stop", "message": {"content": [{"type": "text", "text": "so "}, {"text": "so"}]}}, "so so"),
    ],
)
def test_an_answer_that_ends_without_a_verdict_is_asked_for_once(pairs, choice, kept, tmp_path):
    with serving(reply=lambda _: {"choices": [choice]}) as server:
        failures = []
        judge = judge_at(server, cache=tmp_path)
        (comparison,) = judge.compare(pairs[:1], failures=failures)
        list(judge.compare(pairs[:1]))
    assert len(server.bodies) == 2 and failures == []
    assert comparison.status == "unparsable" and comparison.forward.verdict is None
    assert kept in comparison.forward.text and kept in comparison.backward.text


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": [{"finish_reason": None, "message": {"content": None}}]},
        {"choices": [{"finish_reason": "abort", "message": {"content": "<answer>1"}}]},
        {"error": {"code": 502, "message": "the upstream is gone"}},
        {"error": {"message": "overloaded"}},
        {"error": {"message": "slow down", "code": "rate_limit_exceeded", "type": "requests"}},
        {},
        {"choices": None, "error": "busy"},
        {"detail": "starting"},
    ],
)
def test_what_may_pass_is_asked_for_again(pairs, reply):
    with serving(reply=lambda _: reply) as server:
        failures = []
        assert list(judge_at(server, retries=2).compare(pairs[:1], failures=failures)) == []
    assert len(server.bodies) == 6 and "3 tries" in failures[0].reason and failures[0].lost


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"error": {"code": 402, "message": "no credits"}}, "402: no credits"),
        ({"error": {"code": "content_filter", "message": "not that"}}, "content_filter: not that"),
        ({"error": {"code": None, "type": "invalid_request_error", "message": "too long"}}, "None: too long"),
        ({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, "the reply holds no answer: {"),
    ],
)
def test_what_will_not_pass_is_asked_for_once(pairs, reply, words):
    with serving(reply=lambda _: reply) as server:
        failures = []
        assert list(judge_at(server).compare(pairs[:1], failures=failures)) == []
    assert len(server.bodies) == 2 and f"refused the question ({words}" in failures[0].reason

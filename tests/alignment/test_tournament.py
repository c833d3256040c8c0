"""Adaptive tournaments: the true best and worst of a transitive judge, few comparisons, an end in any case."""

import random
from collections import Counter

import pytest

from alignment.preferences.ranking import rank_prompts
from alignment.preferences.tournament import adaptive_comparisons
from videoduet.records import Comparison, OrderVerdict, Prompt, Video


class Known:
    """Prefers by ``value``, ties within ``blur`` (or disagrees with itself), and counts its calls."""

    def __init__(self, value, blur: float = 0.0, silent=frozenset()):
        self.value, self.blur, self.silent = value, blur, silent
        self.calls = 0

    def compare(self, pairs):
        self.calls += 1
        for pair in pairs:
            if pair.first.id in self.silent:
                continue
            gap = self.value(pair.prompt.text, pair.first.id) - self.value(pair.prompt.text, pair.second.id)
            verdicts = ("first", "second") if gap > 0 else ("second", "first")
            if abs(gap) <= self.blur:
                verdicts = ("first", "first")
            yield Comparison.of(pair, "known", *(OrderVerdict(text="", verdict=verdict) for verdict in verdicts))


def groups(count: int, prompts: int = 3, seed: int = 0):
    rng = random.Random(seed)
    texts = [Prompt.of(f"prompt {index}") for index in range(prompts)]
    videos = {}
    for prompt in texts:
        names = [f"v{index}" for index in range(count)]
        rng.shuffle(names)
        videos[prompt.id] = [Video(id=name, path="") for name in names]
    return {prompt.id: prompt for prompt in texts}, videos


def number(prompt: str, video: str) -> float:
    return float(video[1:])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 10, 16])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_and_the_worst_of_a_transitive_judge(count, seed):
    prompts, videos = groups(count, seed=seed)
    judge = Known(number)
    comparisons = list(adaptive_comparisons(judge, prompts, videos))
    for ranking in rank_prompts(comparisons).values():
        standing = {v: 2 * w - n for v, w, n in zip(ranking.video_ids, ranking.wins, ranking.comparisons, strict=True)}
        best = [v for v in standing if standing[v] == max(standing.values())]
        assert f"v{count - 1}" in best and standing["v0"] == min(standing.values())
        unbeaten = set(standing) - {c.first_id if c.preferred_id == c.second_id else c.second_id for c in comparisons
                                    if c.prompt_id == ranking.prompt_id}  # fmt: skip
        assert unbeaten == {f"v{count - 1}"}
    most = max(Counter(c.prompt_id for c in comparisons).values())
    assert most <= 3 * count / 2 + 1
    assert judge.calls <= 2 * count.bit_length() + 1


def test_no_pair_is_asked_twice_and_best_meets_worst():
    prompts, videos = groups(10)
    comparisons = list(adaptive_comparisons(Known(number), prompts, videos))
    asked = Counter((c.prompt_id, frozenset((c.first_id, c.second_id))) for c in comparisons)
    assert set(asked.values()) == {1}
    assert all(asked[prompt_id, frozenset(("v0", "v9"))] for prompt_id in prompts)


@pytest.mark.parametrize("blur", [1.0, 3.0, 100.0])
def test_a_judge_that_cannot_decide_ends_too(blur):
    prompts, videos = groups(8)
    comparisons = list(adaptive_comparisons(Known(number, blur), prompts, videos))
    assert len(comparisons) <= 3 * 28
    if blur == 100.0:
        assert len(comparisons) == 3 * 28 and all(c.preferred_id is None for c in comparisons)


def test_an_erratic_judge_and_a_silent_one_end_too():
    prompts, videos = groups(9)
    rng = random.Random(0)
    erratic = list(adaptive_comparisons(Known(lambda *_: rng.random()), prompts, videos))
    assert 0 < len(erratic) <= 3 * 36
    silent = list(adaptive_comparisons(Known(number, silent={f"v{i}" for i in range(9)}), prompts, videos))
    assert silent == []


def test_videos_with_the_same_content_are_one():
    prompt = Prompt.of("x")
    videos = [Video(id=name, path=path) for name, path in (("v1", "a"), ("v1", "b"), ("v2", "c"))]
    comparisons = list(adaptive_comparisons(Known(number), {prompt.id: prompt}, {prompt.id: videos}))
    assert [(c.first_id, c.second_id) for c in comparisons] == [("v1", "v2")]


def test_one_video_needs_no_judge():
    prompt = Prompt.of("x")
    assert list(adaptive_comparisons(Known(number), {prompt.id: prompt}, {prompt.id: [Video(id="v1", path="")]})) == []

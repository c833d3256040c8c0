"""What scores are worth by split and within prompts, and the published rows beside them."""

import numpy as np
import pytest

from pipelines import evaluate_judge
from reward_model.datasets import PreferenceItem, ScoredClip
from reward_model.measuring.evaluation import Bootstrap, evaluate_scores
from reward_model.measuring.prompted import by_split, pair_accuracy_of_scores, within_prompts
from reward_model.measuring.published import note_on, published_rows


def clips(models: int = 4, prompts: int = 10) -> list[ScoredClip]:
    scores = np.random.default_rng(0).permutation(models * prompts).astype(float)
    return [
        ScoredClip(
            path=f"m{m}/{p}.mp4", prompt=f"prompt {p}", scores={"static": scores[m * prompts + p], "temporal": m}
        )
        for m in range(models)
        for p in range(prompts)
    ]


def test_both_ways_to_split_are_told():
    items = clips()
    found = by_split(items, [item.scores for item in items])
    assert {by: found[by]["dimensions"]["static"]["SRCC"] for by in found} == {"prompt": 1.0, "video": 1.0}
    assert found["prompt"]["shared"] == 0 and found["video"]["shared"] > 0.9
    # Nothing is told where nothing was prompted, or every video has a prompt of its own.
    for others in ([ScoredClip(path=item.path, scores=item.scores) for item in items], clips(models=1)):
        assert by_split(others, [item.scores for item in others]) == {}


def test_pairs_of_one_prompt():
    items = clips(models=3, prompts=2)
    right = [{"static": item.scores["static"], "temporal": 0.0} for item in items]
    assert within_prompts(items, right) == {"static": {"accuracy": 1, "n": 6}, "temporal": {"accuracy": 0, "n": 6}}
    unread = [{**scores, "static": None} if place < 2 else scores for place, scores in enumerate(right)]
    assert within_prompts(items, unread)["static"]["n"] == 2
    assert within_prompts([ScoredClip(path="a", scores={"x": 1})] * 2, [{"x": 1}] * 2) == {}


def test_pairs_that_people_judged():
    items = [
        PreferenceItem(first="a", second="b", prompt="", preferred={"static": "first", "dynamic": "tie"}),
        PreferenceItem(first="b", second="c", prompt="", preferred={"static": "first"}),
        PreferenceItem(first="c", second="d", prompt="", preferred={"static": "second"}),
    ]
    scores = {"a": {"static": 3.0, "dynamic": 1.0}, "b": {"static": 1.0, "dynamic": 2.0}, "c": {"static": 2.0}}
    found = pair_accuracy_of_scores(items, scores)
    assert found["static"] == {"accuracy": 0.5, "n": 2} and found["dynamic"]["n"] == 0


def test_they_stand_in_the_results_and_are_printed(capsys):
    items = clips()
    answers = [f"<answer>{{'static': {i.scores['static']}, 'temporal': 1}}</answer>" for i in items]
    found = evaluate_scores(items, answers, Bootstrap(resamples=5))
    assert found["splits"].keys() == {"prompt", "video"} and found["pairs_within_prompts"]["static"]["n"] == 60
    told = {"benchmark": "aigvqa_db", "split": "all", "published": {"static": [], "temporal": []}, "note": None}
    evaluate_judge.show({**found, **told, "unreadable_videos": 0})
    shown = " ".join(capsys.readouterr().err.split())
    assert "Ten test fifths by prompt, 0 % of their prompts outside them too; mean SRCC / PLCC: static 1.000" in shown
    assert "static: of 60 pairs of one prompt, 1.000 are scored as people do." in shown


@pytest.mark.parametrize(
    ("benchmark", "dimension", "row"),
    [("aigvqa_db", "static quality", {"SRCC": 0.9162, "PLCC": 0.919, "KRCC": 0.7576}),
     ("aigvqa_pairs", "dynamic degree", {"diff": 0.603}), ("gaia", "interaction", {"SRCC": 0.6329, "PLCC": 0.634}),
     ("fetv", "temporal", {"SRCC": 0.936, "PLCC": 0.94, "KRCC": 0.815}),
     ("t2vqa_sora", "overall", {"SRCC": 0.6612, "PLCC": 0.3318, "KRCC": 0.5075})],
)  # fmt: skip
def test_published_rows_stand_beside(benchmark, dimension, row):
    assert published_rows(benchmark, "test", dimension)[-1] == {"method": "AIGV-Assessor", **row}
    assert published_rows(benchmark, "test", "sound") == []


def test_lgvq_has_the_rows_of_both_papers():
    rows = {str(row["method"]): row for row in published_rows("lgvq", "test", "consistency")}
    assert rows["VQ-Insight"]["SRCC"] == 0.825 and rows["AIGV-Assessor (AIGV-Assessor)"]["SRCC"] == 0.577
    assert "ten" in str(note_on("gaia"))

"""A batch's rewards from its rollouts: each part where it belongs, groups apart, data sets apart."""

import json

import numpy as np
import pytest

from reward_model.datasets import PreferenceItem, QuestionItem, Reading, ScoredClip
from reward_model.prompts import JudgePrompt, TaskPrompts
from reward_model.rewards import (
    bell_shaped_reward,
    pairwise_ranking_reward,
    temporal_consistency_reward,
)
from reward_model.training.config import RewardConfig
from reward_model.training.group_rewards import Rollout, reward_table
from reward_model.training.mixture import Ingredient, shares, stage_rows, swapped, usable
from videoduet.errors import InputError

JUDGE_PROMPT = JudgePrompt(system=None, before_first="1", before_second="2", question="{prompt}")


def said(value) -> str:
    return f"<think>so</think><answer>{value}</answer>"


def score(target: float, dataset: str = "A", scale=(0, 100)) -> dict:
    return {"kind": "score", "target": target, "dataset": dataset, "scale": scale, "moves": True}


PREFERENCE = {"kind": "preference", "preferred": "second", "dataset": "P", "scale": (0, 100), "moves": True}
CHECK = {"kind": "question", "options": ["yes", "no"], "preferred": "no", "dataset": "Q", "scale": (0, 100)}
SEVERAL = {"kind": "dimensions", "targets": {"a": 20.0, "b": 80.0}, "dataset": "D", "scale": (0, 100)}


def rollouts(right: dict, answers: list, perturbed: list | None = None, length: int = 400) -> list[Rollout]:
    others = perturbed if perturbed is not None else [None] * len(answers)
    return [
        Rollout(right, said(a), length, None if o is None else said(o)) for a, o in zip(answers, others, strict=True)
    ]


def accuracies(right: dict, answers: list) -> list[float]:
    config = RewardConfig(score="l1", dimension_weight=1.0)
    return reward_table(rollouts(right, answers), config, len(answers))[0]["accuracy"].tolist()


def test_an_error_counts_at_most_the_whole_scale():
    assert accuracies(score(80), [80, 90, 10**30, -7000, "much"]) == pytest.approx([1, 0.9, 0, 0, 0])
    assert accuracies(score(8, scale=(0, 10)), [8, 13, 1000000]) == pytest.approx([1, 0.5, 0])
    answers = ['{"a": 20, "b": 80}', '{"a": 20, "b": 90000}', '{"a": 1e300, "b": 70}', '{"a": 90, "b": 10}']
    assert accuracies(SEVERAL, answers) == pytest.approx([1, 0, -0.1, -0.4])


def test_a_number_off_the_scale_wins_no_rank():
    config = RewardConfig(score="none", ranking=True)
    batch = [
        *rollouts(score(4, scale=(1, 5)), [4.0, 8.0, "much", 3.9]),
        *rollouts(score(3, scale=(1, 5)), [3, 3, 3, 3]),
    ]
    own, far, unreadable, near = reward_table(batch, config, 4)[0]["ranking"][:4]
    assert far == unreadable < min(own, near)


def test_several_dimensions_may_have_a_denominator_in_training_too():
    assert accuracies(SEVERAL, ["a: 20/100\nb: 80/100", '{"a": 20, "b": 80}']) == [1.0, 1.0]


def test_a_score_out_of_another_full_scale_is_moved_but_not_in_released_code():
    assert accuracies(score(60), ["60/100", "3/5", "6 out of 10", "3/7"]) == pytest.approx([1, 1, 1, 0])
    answers = rollouts(score(3), ["3/5", "3"])
    released = reward_table(answers, RewardConfig(score="l1", variant="released"), 2)[0]["accuracy"]
    assert released[0] == released[1]


def test_an_absurd_number_does_not_hide_the_others():
    rewards = np.array(accuracies(score(50), [50, 60, 50, 40, 10**12]))
    advantages = (rewards - rewards.mean()) / rewards.std()
    assert advantages[0] - advantages[1] > 0.2


def test_an_absurd_number_does_not_hide_the_others_ranks():
    config = RewardConfig(ranking=True)
    batch = rollouts(score(20), [20, 30, 10**12]) + rollouts(score(80), [80, 70, 25])
    ranks = reward_table(batch, config, 3)[0]["ranking"]
    assert len(set(ranks[3:].round(3))) == 3


def test_every_task_has_its_accuracy():
    batch = [
        *rollouts(score(60), [60, 50, "what"]),
        *rollouts(PREFERENCE, [2, "Video B", 1]),
        *rollouts(CHECK, ["no", "No.", "yes"]),
        *rollouts(SEVERAL, ['{"a": 20, "b": 80}', '"b": 70, "a": 20', "{}"]),
    ]
    table, metrics = reward_table(batch, RewardConfig(), 3)
    assert table["accuracy"] == pytest.approx([1, 0.9, 0, 1, 1, 0, 1, 1, 0, 1, 0.95, 0])
    assert table["format"].tolist() == [1.0] * 12
    assert set(table) == {"accuracy", "format"} and metrics == {}
    heavy, _ = reward_table(batch, RewardConfig(dimension_weight=1.0), 3)
    assert heavy["accuracy"][-3:] == pytest.approx([1, 0.9, -1]), "no answer is the worst answer"
    released, _ = reward_table(batch, RewardConfig(variant="released"), 3)
    assert released["accuracy"][1] == pytest.approx(1 - 10 / 60)
    assert released["accuracy"][-2] == 0.0, "the released parser wants braces"


def test_temporal_modelling_sees_its_own_group():
    better = rollouts(score(50), [50, 45, 40, 35], [10, 0, None, None])
    worse = rollouts(score(50), [0, 5, 0, 5], [50, 50, None, None])
    table, metrics = reward_table([*better, *worse], RewardConfig(temporal="modeling"), 4)
    assert table["temporal"].tolist() == [0.3] * 4 + [0.0] * 4
    ordered = np.mean([np.mean([1, 0.95, 0.9, 0.85]), np.mean([0.5, 0.55, 0.5, 0.55])])
    assert metrics["temporal/ordered"] == pytest.approx(ordered)
    assert metrics["temporal/perturbed"] == pytest.approx(np.mean([0.55, 1.0]))


def test_a_preference_has_no_temporal_reward():
    table, metrics = reward_table(rollouts(PREFERENCE, [1, 2]), RewardConfig(temporal="modeling"), 2)
    assert np.isnan(table["temporal"]).all() and metrics == {}


@pytest.mark.parametrize("temporal", ["contrast", "margin", "severity"])
def test_versions_are_rewarded_beside_pairs(temporal):
    """What says no level has no temporal reward, and spoils none."""
    clip = [{**score(50), "clip": 0, "severity": severity} for severity in (0.0, 1.0)]
    pair = {"kind": "preference", "preferred": "first", "dataset": "B", "scale": [0, 100]}
    groups = [rollouts(clip[0], [said(80), said(40)]), rollouts(pair, [said(1), said("?")]),
              rollouts(clip[1], [said(40), said(50)])]  # fmt: skip
    table, _ = reward_table([one for group in groups for one in group], RewardConfig(temporal=temporal), 2)
    earned = table["temporal"].reshape(3, 2)
    assert np.isnan(earned[1]).all() and (earned[[0, 2]] >= 0).all() and earned[0, 0] > earned[0, 1]


def test_length_is_of_the_answer():
    batch = [*rollouts(score(50), [50], length=320), *rollouts(score(50), [50], length=321)]
    assert reward_table(batch, RewardConfig(length=True), 1)[0]["length"].tolist() == [0.0, 0.1]
    batch = rollouts(score(50), [50, 50, 900], length=400)
    assert reward_table(batch, RewardConfig(length=True, variant="released"), 3)[0]["length"].tolist() == [0.2, 0.2, 0]
    assert reward_table(batch, RewardConfig(length=True, l_min=400), 3)[0]["length"].tolist() == [0.0] * 3


THINKER = RewardConfig(score="bell", ranking=True, temporal="consistency")


def test_ranking_compares_within_a_data_set():
    given = {("A", 4.5): [4.2, 4.4], ("B", 2.0): [2.2, 2.1], ("A", 1.5): [1.9, 2.4], ("B", 3.0): [1.0, 1.2]}
    batch = [r for (name, target), answers in given.items() for r in rollouts(score(target, name, (1, 5)), answers)]
    table, _ = reward_table(batch, RewardConfig(score="bell", ranking=True), 2)
    in_a = pairwise_ranking_reward([[4.2, 4.4], [1.9, 2.4]], [4.5, 1.5])
    in_b = pairwise_ranking_reward([[2.2, 2.1], [1.0, 1.2]], [2.0, 3.0])
    expected = np.stack([in_a[0], in_b[0], in_a[1], in_b[1]]).reshape(-1)
    assert table["ranking"] == pytest.approx(expected)
    assert table["accuracy"][0] == pytest.approx(bell_shaped_reward(4.2, 4.5))


def test_consistency_ranks_the_perturbed_video_among_the_others_as_they_are():
    answers, perturbed, targets = [[4.2, 4.4], [1.9, 2.4]], [[1.2, 1.5], [1.8, 2.3]], [4.5, 1.5]
    batch = [
        r
        for target, a, p in zip(targets, answers, perturbed, strict=True)
        for r in rollouts(score(target, scale=(1, 5)), a, p)
    ]
    table, _ = reward_table(batch, THINKER, 2)
    ranks = pairwise_ranking_reward(answers, targets)
    expected = np.zeros((2, 2))
    for i in range(2):
        regression = [[bell_shaped_reward(v, targets[i]) for v in given[i]] for given in (answers, perturbed)]
        mixed = [perturbed[j] if j == i else answers[j] for j in range(2)]
        expected[i] += temporal_consistency_reward(*regression)
        expected[i] += temporal_consistency_reward(ranks[i], pairwise_ranking_reward(mixed, targets)[i])
    assert table["temporal"] == pytest.approx(expected.reshape(-1))
    assert {0.3, 0.6} & set(table["temporal"].round(6))


def test_unreadable_batches_give_no_error():
    for config in (RewardConfig(temporal="modeling", length=True), THINKER):
        table, _ = reward_table(rollouts(score(3, scale=(1, 5)), ["?", "?"], ["?", "?"]), config, 2)
        assert set(table) == set(config.columns)
        assert table["accuracy"].tolist() == [0.0, 0.0]


def test_the_order_of_groups_is_nothing():
    groups = [rollouts(score(t, scale=(1, 5)), [t, t - 0.3], [t - 1, 1]) for t in (1.5, 3.0, 4.5)]
    forward, _ = reward_table([r for g in groups for r in g], THINKER, 2)
    backward, _ = reward_table([r for g in groups[::-1] for r in g], THINKER, 2)
    for name, values in forward.items():
        assert values.reshape(3, 2)[::-1].reshape(-1) == pytest.approx(backward[name])


def test_contradictory_configs_are_refused():
    with pytest.raises(InputError, match="l_min"):
        RewardConfig(l_min=512, l_max=320)
    with pytest.raises(InputError, match="consistency"):
        RewardConfig(temporal="consistency")


def pairs(count: int) -> Reading:
    labels = ("first", "second", "tie")
    return Reading("pairs", "all", [
        PreferenceItem(first=f"{i}a", second=f"{i}b", prompt=f"p{i}", preferred={"overall": labels[i % 3]})
        for i in range(count)
    ])  # fmt: skip


def clips(name: str, count: int, scale) -> Reading:
    items = [ScoredClip(path=f"{name}{i}", scores={"overall": scale[1]}, image=name == "image") for i in range(count)]
    return Reading(name, "all", items, scale)


def rows_of(ingredients, steps=100, per_step=4, **options) -> list[tuple[list[str], dict]]:
    rows = stage_rows(
        ingredients, steps=steps, per_step=per_step, scale=(0, 100), prompts=TaskPrompts(), judge_prompt=JUDGE_PROMPT,
        seed=3, **options,
    )  # fmt: skip
    shown = [[part["video"] for part in row["prompt"][-1]["content"] if part["type"] == "video"] for row in rows]
    return list(zip(shown, (json.loads(row["right"]) for row in rows), strict=True))


def test_ties_are_no_label():
    reading = usable(pairs(9))
    assert len(reading.items) == 6 and sum(reading.left_out.values()) == 3


def test_pairs_are_shown_in_both_orders_and_labels_follow():
    rows = rows_of([Ingredient(usable(pairs(9)))])
    better = {f"{i}{'a' if i % 3 == 0 else 'b'}" for i in range(9)}
    for shown, right in rows:
        assert shown[right["preferred"] == "second"] in better
    first = sum(right["preferred"] == "first" for _, right in rows)
    assert 160 < first < 240
    item = pairs(1).items[0]
    assert swapped(swapped(item)) == item


def test_versions_stand_beside_as_many_clips_as_without():
    """Items of a step are those of a stage without versions; these follow, of the step's own clips."""
    mixed = [Ingredient(clips("video", 9, (1, 5)), 0.5), Ingredient(clips("image", 9, (1, 5)), 0.5)]
    plain, rows = rows_of(mixed), rows_of(mixed, versions=(1.0, 0.5), beside=3)
    assert len(rows) == 100 * (4 + 3)
    again = 0
    for step in range(100):
        items, beside = rows[7 * step : 7 * step + 4], rows[7 * step + 4 : 7 * step + 7]
        assert [shown for shown, _ in items] == [shown for shown, _ in plain[4 * step : 4 * step + 4]]
        own = [(shown, right["clip"]) for shown, right in items if right["moves"]]
        if not own:
            assert beside == items[:3], "a step without clips shows its items again"
            continue
        expected = [(*clip, severity) for clip in own for severity in (1.0, 0.5)]
        assert [(s, r["clip"], r["severity"]) for s, r in beside] == (expected + expected)[:3]
        again += len(expected) < 3
    assert again, "a step with one clip shows a version of it again"


def test_every_item_is_seen_as_often():
    rows = rows_of([Ingredient(clips("video", 8, (1, 5)))], steps=20)
    counts = {f"video{i}": sum(shown == [f"video{i}"] for shown, _ in rows) for i in range(8)}
    assert set(counts.values()) == {10}
    assert [shown for shown, _ in rows[:8]] != [shown for shown, _ in rows[8:16]]


def test_scales_mix_and_images_do_not_move():
    rows = rows_of([Ingredient(clips("video", 5, (1, 5))), Ingredient(clips("image", 5, (0, 10)))])
    assert {right["target"] for _, right in rows} == {100.0}
    assert {(right["dataset"], right["moves"]) for _, right in rows} == {("video", True), ("image", False)}


def test_shares():
    small, large = clips("small", 10, (0, 1)), clips("large", 30, (0, 1))
    assert shares([Ingredient(small), Ingredient(large)]).tolist() == [0.25, 0.75]
    assert shares([Ingredient(small, 0.6), Ingredient(large)]).tolist() == pytest.approx([0.6, 0.4])
    rows = rows_of([Ingredient(small, 0.6), Ingredient(large)])
    assert sum(right["dataset"] == "small" for _, right in rows) == pytest.approx(240, abs=35)
    for wrong in ([0.6, 0.6], [1.0, None], [0.2, 0.2]):
        with pytest.raises(InputError, match="add up"):
            shares([Ingredient(small, wrong[0]), Ingredient(large, wrong[1])])


def test_a_step_of_one_source():
    rows = rows_of([Ingredient(clips("A", 9, (0, 1))), Ingredient(clips("B", 9, (0, 1)))], one_source_a_step=True)
    sources = [{right["dataset"] for _, right in rows[start : start + 4]} for start in range(0, 400, 4)]
    assert all(len(names) == 1 for names in sources) and len(set().union(*sources)) == 2


def test_rows_depend_on_the_seed_alone():
    ingredients = [Ingredient(usable(pairs(9))), Ingredient(clips("video", 5, (1, 5)))]
    assert rows_of(ingredients) == rows_of(ingredients)
    assert rows_of(ingredients)[:40] == rows_of(ingredients, steps=100)[:40]


def test_questions_keep_their_options():
    item = QuestionItem(paths=("x", "y"), question="Which?", options=("A", "B"), answer="B")
    ((shown, right),) = rows_of([Ingredient(Reading("q", "all", [item]))], steps=1, per_step=1)
    assert shown == ["x", "y"] and right["options"] == ["A", "B"] and right["preferred"] == "B"

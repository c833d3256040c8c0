"""Every reward can change an advantage: what a whole group gets, its mean takes away."""

from dataclasses import fields, replace
from itertools import product
from typing import get_args, get_type_hints

import numpy as np
import pytest

from reward_model.rewards import Variant
from reward_model.training.config import VERSIONS, RewardConfig, Temporal
from reward_model.training.group_rewards import Rollout, reward_table

K = 4
ON = RewardConfig(score="bell", ranking=True, temporal="consistency", length=True)


def said(value: object) -> str:
    return f"<think>so</think><answer>{value}</answer>"


def group(answers, *, target=3.0, perturbed=None, lengths=(400,) * K, **right) -> list[Rollout]:
    asked = {"kind": "score", "target": target, "dataset": "A", "scale": (1, 5), "moves": True, **right}
    others = [None] * K if perturbed is None else [None if value is None else said(value) for value in perturbed]
    texts = [answer if str(answer).startswith("<") else said(answer) for answer in answers]
    return [Rollout(asked, *parts) for parts in zip(texts, lengths, others, strict=True)]


def versions(*answers) -> list[Rollout]:
    severities = (0.0, 1.0, 0.5)[: len(answers)]
    return [
        each for found, severity in zip(answers, severities, strict=True)
        for each in group(found, clip=0, severity=severity)
    ]  # fmt: skip


TWO = [
    *group([4.52, 2.05, 4.4, 1], target=4.5, perturbed=[1, 1.2, 1.1, 1.3]),
    *group([2.2, 2.4, 1.9, 3], target=1.5, perturbed=[2.5, 2, 2.3, 2.4]),
]
BATCHES: dict[tuple[str, str], list[Rollout]] = {
    ("accuracy", ""): group([3, 2, 3, 4.5]),
    ("format", ""): group([3, "<answer>3</answer>", 3, 3]),
    ("ranking", ""): [*group([3.5, 2.5, 2.5, 3.5]), *group([2, 2, 3, 2], target=2.0)],
    ("length", ""): group([3, 3, 3, 2], lengths=(400, 400, 900, 400)),
    ("temporal", "modeling"): group([2, 4, 3, 1], perturbed=[2, 1, None, None]),
    ("temporal", "consistency"): TWO,
    ("temporal", "fidelity"): group([2, 4, 3, 1], perturbed=[3, 2.5, None, None]),
    ("temporal", "contrast"): versions([2, 4, 3, 3], [2, 2.5, 3, 2]),
    ("temporal", "margin"): versions([2, 4, 3, 3], [2, 2.5, 3, 2]),
    ("temporal", "severity"): versions([2, 4, 3, 3], [2, 2.5, 3, 2], [2, 3, 3, 2.5]),
    ("temporal", "discount"): versions([2, 4, 3, 3], [2, 2.5, 3, 2], [2, 3, 3, 2.5]),
}
"""A batch for each reward, and for each way of one that has several, on which it makes a difference."""


def switched(option: str) -> RewardConfig:
    return replace(ON, temporal=option) if option else ON


def advantages(table: dict[str, np.ndarray]) -> np.ndarray:
    """As the trainer has them: the sum of the rewards that apply, less its group's mean, over its group's spread."""
    total = np.nansum(list(table.values()), axis=0).reshape(-1, K)
    return (total - total.mean(1, keepdims=True)) / (total.std(1, ddof=1, keepdims=True) + 1e-4)


def change(column: str, option: str, variant: Variant) -> float:
    """By how much some advantage differs where a reward is switched off."""
    table, _ = reward_table(BATCHES[column, option], replace(switched(option), variant=variant), K)
    without = {name: values for name, values in table.items() if name != column}
    return float(np.abs(advantages(table) - advantages(without)).max())


def test_every_reward_has_its_batch():
    """Columns are those that ``reward_table`` gives with everything on that can be."""
    hints = get_type_hints(RewardConfig)
    switches = {field.name: (True,) for field in fields(RewardConfig) if hints[field.name] is bool}
    choices = {name: get_args(hint) for name, hint in hints.items() if get_args(hint) and None not in get_args(hint)}
    choices = {name: values for name, values in choices.items() if type(None) not in values}
    every = switches | choices
    columns = set()
    for values in product(*every.values()):
        config = RewardConfig(**dict(zip(every, values, strict=True)))
        columns |= set(reward_table([*TWO, *TWO], config, K)[0])
    assert columns == {column for column, _ in BATCHES}
    assert {option for _, option in BATCHES} - {""} == set(get_args(Temporal)) - {"none"}
    assert set(VERSIONS) <= set(get_args(Temporal))


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(("column", "option"), BATCHES)
def test_every_reward_changes_advantages(column, option, variant):
    assert change(column, option, variant) > 0.05


@pytest.mark.parametrize("option", ["modeling", "consistency"])
def test_means_alone_change_none(option):
    """Why ``literal`` teaches nothing."""
    assert change("temporal", option, "literal") < 1e-12
    table, _ = reward_table(BATCHES["temporal", option], replace(switched(option), variant="literal"), K)
    assert table["temporal"].max() > 0, "though the bonus is given"

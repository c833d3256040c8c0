"""The paper's rewards against the released ones."""

import json
from pathlib import Path

import pytest

from reward_model.rewards import comparison_reward, format_reward

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vqinsight_rewards.json").read_text())


@pytest.mark.parametrize("row", GOLDEN["format"], ids=lambda row: row["completion"][:40])
def test_format_reward_is_the_released_one(row):
    assert format_reward(row["completion"]) == row["released"]


def test_format_reward_has_both_values():
    assert {row["released"] for row in GOLDEN["format"]} == {0.0, 1.0}
    assert format_reward("") == format_reward("<think></think><answer>") == 0.0


@pytest.mark.parametrize("preferred", ["first", "second"])
@pytest.mark.parametrize("choice", ["first", "second", "tie", None])
def test_comparison_reward(choice, preferred):
    assert comparison_reward(choice, preferred) == (1.0 if choice == preferred else 0.0)
    assert isinstance(comparison_reward(choice, preferred), float)

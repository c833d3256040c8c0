"""Random splits of a data set, 4:1 and ten times as papers on generated videos report them, by prompt or by video."""

from collections.abc import Sequence
from pathlib import Path

from reward_model.datasets.items import Item, PreferenceItem, QuestionItem
from videoduet.seeding import seed_for

SPLITS, TEST = 10, 0.2
"""How many splits AIGV-Assessor averages over, and the part that each tests on."""


def random_splits(
    groups: Sequence[str], *, splits: int = SPLITS, test: float = TEST, seed: int = 0
) -> list[tuple[int, ...]]:
    """For each split the places of its test items among ``groups``, which name what stays together: items of a group
    are all tested or all trained on.

    A draw of a ``test`` part of the groups (one at least), which follows from ``seed``, the split and the groups' names
    and not from their order.
    """
    names = sorted(set(groups))
    number = max(1, round(test * len(names)))
    found: list[tuple[int, ...]] = []
    for split in range(splits):
        chosen = set(sorted(names, key=lambda name: seed_for(seed, "split", split, name))[:number])
        found.append(tuple(place for place, name in enumerate(groups) if name in chosen))
    return found


def shared_prompts(prompts: Sequence[str], test: Sequence[int]) -> float:
    """Which part of the ``test`` items, places among ``prompts``, has a prompt that is trained on as well: what a split
    by video leaks, since videos of one prompt are alike. 0 where nothing is tested.
    """
    tested = set(test)
    trained = {prompt for place, prompt in enumerate(prompts) if place not in tested}
    return sum(prompts[place] in trained for place in test) / len(test) if test else 0.0


def prompt_of(item: Item) -> str:
    """What an item was prompted with; where nothing says it, the name of its (first) file, which videos of one prompt
    share in some data sets.
    """
    prompt = None if isinstance(item, QuestionItem) else item.prompt
    return prompt or Path(video_of(item)).stem


def video_of(item: Item) -> str:
    """The path of an item's (first) file."""
    if isinstance(item, QuestionItem):
        return item.paths[0]
    return item.first if isinstance(item, PreferenceItem) else item.path

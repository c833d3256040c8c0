"""What AIGV-Assessor's stages learn from: rows in the order of training, and rows of prompts that are held out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reward_model.datasets import Item, PreferenceItem, QuestionItem, Reading, ScoredClip
from reward_model.datasets.splits import prompt_of
from reward_model.judging.tasks import rescaled
from reward_model.questions import chat
from reward_model.training.mixture import Ingredient, endless, shares
from videoduet.errors import InputError
from videoduet.seeding import seed_for

PREFERRED = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True)
class Lessons:
    """Rows to train on, in order, and those to validate on.

    Each has ``prompt`` (messages, which name the videos), ``text`` (what they were drawn for), ``videos`` (their
    paths), and ``target`` by dimension: a score in [0, 1], or how far the first of two is preferred; NaN where nothing
    is known.
    """

    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]


def dimensions_in(ingredients: Sequence[Ingredient]) -> tuple[str, ...]:
    """What the data rate or compare, in order of first mention."""
    found: dict[str, None] = {}
    for ingredient in ingredients:
        for item in ingredient.reading.items:
            if not isinstance(item, QuestionItem):
                found |= dict.fromkeys(item.scores if isinstance(item, ScoredClip) else item.preferred)
    return tuple(found)


def check_items(ingredients: Sequence[Ingredient], dimensions: Sequence[str], *, pairs: bool) -> None:
    """Raises InputError where the data are not what a stage learns from, or rate what the judge does not."""
    wanted, name = (PreferenceItem, "pairs") if pairs else (ScoredClip, "scored clips")
    for ingredient in ingredients:
        reading = ingredient.reading
        if not all(isinstance(item, wanted) for item in reading.items):
            raise InputError(f"{reading.name} holds no {name}, which this assessor.stage learns from; give other data.")
    if strange := [each for each in dimensions_in(ingredients) if each not in dimensions]:
        raise InputError(
            f"The data rate {', '.join(strange)}, and the judge rates {', '.join(dimensions)}; give data of the same "
            "dimensions."
        )


def split(ingredients: Sequence[Ingredient], share: float, seed: int) -> tuple[list[Ingredient], list[Ingredient]]:
    """``ingredients`` without a ``share`` of their prompts, and with these alone, whichever data set they are in.

    Raises InputError where nothing would be left of either.
    """
    prompts = sorted({prompt_of(item) for i in ingredients for item in i.reading.items})
    count = math.ceil(share * len(prompts)) if share else 0
    held = set(sorted(prompts, key=lambda prompt: seed_for(seed, "validation", prompt))[:count])

    def part(ingredient: Ingredient, of: bool) -> Ingredient:
        items = [item for item in ingredient.reading.items if (prompt_of(item) in held) == of]
        return replace(ingredient, reading=replace(ingredient.reading, items=items))

    kept, out = ([part(i, of) for i in ingredients] for of in (False, True))
    if any(not i.reading.items for i in kept):
        names = ", ".join(i.reading.name for i in kept if not i.reading.items)
        raise InputError(f"Validation takes all of {names}; give more prompts, or a smaller assessor.validation.")
    return kept, out


def lessons(
    ingredients: Sequence[Ingredient], dimensions: Sequence[str], *, count: int, validation: float, seed: int
) -> Lessons:
    """``count`` rows to train on, each data set in its own order visit by visit, and all that is held out, once."""
    kept, out = split(ingredients, validation, seed)
    share, rng = shares(kept), np.random.default_rng(seed_for(seed, "mixture"))
    draws: list[int] = rng.choice(len(kept), size=count, p=share).tolist()
    sources = [endless(ingredient.reading, seed) for ingredient in kept]
    return Lessons(
        [_row(next(sources[draw]), kept[draw].reading, dimensions) for draw in draws],
        [_row(item, one.reading, dimensions) for one in out for item in one.reading.items],
    )


def _row(item: Item, reading: Reading, dimensions: Sequence[str]) -> dict[str, Any]:
    assert not isinstance(item, QuestionItem)
    if isinstance(item, PreferenceItem):
        videos = [item.first, item.second]
        known = {name: PREFERRED[label] for name, label in item.preferred.items()}
    else:
        assert reading.scale is not None, "a scored clip comes from a data set with a scale"
        videos = [item.path]
        known = {name: rescaled(score, reading.scale, (0.0, 1.0)) for name, score in item.scores.items()}
    shown = [{"type": "video", "video": path} for path in videos]
    target = [known.get(name, math.nan) for name in dimensions]
    return {"prompt": chat(None, shown), "videos": videos, "text": item.prompt or "", "target": target}

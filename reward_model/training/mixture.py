"""The rows that a stage trains on, laid out ahead of time from one data set or several."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reward_model.datasets import Item, PreferenceItem, Reading, ScoredClip
from reward_model.judging.tasks import Scale, question_about, right_answer
from reward_model.parsing import Choice
from reward_model.prompts import JudgePrompt, Prompts, TaskPrompts
from videoduet.errors import InputError
from videoduet.seeding import seed_for


@dataclass(frozen=True)
class Ingredient:
    """A data set in a mixture, with the share of rows that come from it (None: in proportion to its size)."""

    reading: Reading
    share: float | None = None


def usable(reading: Reading) -> Reading:
    """What can be trained on: a pair that people call a tie has no label, and is counted as left out."""
    kept = [
        item
        for item in reading.items
        # Pairs that are labelled by dimension alone have no overall preference.
        if not (isinstance(item, PreferenceItem) and item.preferred.get("overall") == "tie")
    ]
    left_out = reading.left_out.copy()
    if ties := len(reading.items) - len(kept):
        left_out["pairs that people call a tie"] = ties
    return replace(reading, items=kept, left_out=left_out)


def shares(ingredients: Sequence[Ingredient]) -> np.ndarray:
    """The share of rows of each ingredient, which add up to 1. Raises InputError where none is left for some."""
    given = sum(i.share for i in ingredients if i.share is not None)
    open_size = sum(len(i.reading.items) for i in ingredients if i.share is None)
    if given > 1 + 1e-9 or (not open_size and abs(given - 1) > 1e-9) or (open_size and given > 1 - 1e-9):
        raise InputError(f"The shares of the data add up to {given:g}; give shares that add up to 1.", exit_code=2)
    return np.array(
        [i.share if i.share is not None else (1 - given) * len(i.reading.items) / open_size for i in ingredients]
    )


def endless(reading: Reading, seed: int) -> Iterator[Item]:
    """The items again and again, each time in an order of its own; the two videos of a pair in a 50/50 order, with the
    label flipped to match, so that no position is worth learning.
    """

    def draw(*what: object) -> np.random.Generator:
        return np.random.default_rng(seed_for(seed, reading.name, *what))

    for visit in itertools.count():
        for index in draw("visit", visit).permutation(len(reading.items)):
            item = reading.items[int(index)]
            if isinstance(item, PreferenceItem) and draw("order", visit, index).integers(2):
                yield swapped(item)
            else:
                yield item


def swapped(item: PreferenceItem) -> PreferenceItem:
    """The same pair the other way round, and its labels with it."""
    other: dict[Choice, Choice] = {"first": "second", "second": "first", "tie": "tie"}
    preferred = {name: other[label] for name, label in item.preferred.items()}
    return replace(item, first=item.second, second=item.first, preferred=preferred)


def stage_rows(
    ingredients: Sequence[Ingredient],
    *,
    steps: int,
    per_step: int,
    scale: Scale,
    prompts: TaskPrompts,
    judge_prompt: JudgePrompt,
    seed: int,
    one_source_a_step: bool = False,
    versions: Sequence[float] = (),
    beside: int = 0,
) -> list[dict[str, Any]]:
    """``steps * (per_step + beside)`` rows in the order of training, each with ``prompt`` and ``right`` (JSON).

    Every data set's scores are moved from its own declared scale to ``scale``, so that they mix. ``one_source_a_step``
    fills a step from one data set, as a ranking compares within one. The ``per_step`` items of a step are followed by
    ``beside`` rows: ``versions`` of its first scored clips that move, shuffled that much (:func:`shuffled_row`), and
    where it has too few of these, its versions again, and items again where it has none.
    """
    share, rng = shares(ingredients), np.random.default_rng(seed_for(seed, "mixture"))
    draws = rng.choice(len(ingredients), size=steps if one_source_a_step else steps * per_step, p=share)
    sources = [endless(ingredient.reading, seed) for ingredient in ingredients]
    rows: list[dict[str, Any]] = []
    for place, draw in enumerate(np.repeat(draws, per_step if one_source_a_step else 1).tolist()):
        item, reading = next(sources[draw]), ingredients[draw].reading
        right = {
            **right_answer(item, reading.scale, scale),
            "dataset": reading.name,
            "scale": list(scale),
            "moves": not (isinstance(item, ScoredClip) and item.image),
        }
        question = question_about(item, scale, prompts, Prompts(judge_prompt))
        if versions and isinstance(item, ScoredClip) and not item.image:
            # Where a clip stands says which versions are its own.
            right |= {"clip": len(rows), "severity": 0.0}
        rows.append({"prompt": question.messages, "right": json.dumps(right)})
        if (place + 1) % per_step == 0:
            rows += _beside(rows[-per_step:], versions, beside)
    return rows


def _beside(rows: Sequence[dict[str, Any]], versions: Sequence[float], count: int) -> list[dict[str, Any]]:
    clips = [row for row in rows if "clip" in json.loads(row["right"])]
    shuffled = [shuffled_row(row, severity) for row in clips for severity in versions]
    return list(itertools.islice(itertools.cycle(shuffled or rows), count))


def shuffled_row(row: dict[str, Any], severity: float) -> dict[str, Any]:
    """``row`` about the same clip with that share of its frames shuffled, as its video's part of the prompt says."""
    right = {**json.loads(row["right"]), "severity": severity}
    shuffled = {"severity": severity, "clip": right["clip"]}
    prompt = [
        {**message, "content": [part | shuffled if part["type"] == "video" else part for part in message["content"]]}
        if not isinstance(message["content"], str)
        else message
        for message in row["prompt"]
    ]
    return {"prompt": prompt, "right": json.dumps(right)}

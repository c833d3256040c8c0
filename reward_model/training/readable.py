"""Videos that cannot be read, found before a training that may meet them first after hours."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from reward_model.datasets import Item, PreferenceItem, QuestionItem
from reward_model.questions import video_paths
from reward_model.training.mixture import Ingredient
from videoduet.errors import InputError, in_words
from videoduet.processes import processes
from videoduet.progress import console, track
from videoduet.store import read_json, write_json
from videoduet.video import Sampling, read_video

Rows = list[dict[str, Any]]


def readable_rows(
    ingredients: Sequence[Ingredient], lay_out: Callable[[Sequence[Ingredient]], Rows], sampling: Sampling, output: Path
) -> Rows:
    """What ``lay_out`` makes of ``ingredients`` without the items whose video cannot be read, as ``sampling`` does.

    Only videos that rows show are looked at, each once. ``output`` gets ``unreadable.json``, with each one's reason, so
    that a resumed training sees the same rows; the terminal says how many. Raises InputError where nothing is left.
    """
    kept = output / "unreadable.json"
    if processes().is_main_process and not kept.exists():
        write_json(kept, _unreadable(ingredients, lay_out, sampling))
    processes().wait_for_everyone()
    reasons = read_json(kept)
    if reasons and processes().is_main_process:
        console.print(
            f"warning: {len(reasons)} videos cannot be read, and their items are left out; see {kept}. The first: "
            f"{next(iter(reasons.values()))}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    return lay_out(_without(ingredients, reasons))


def _unreadable(
    ingredients: Sequence[Ingredient], lay_out: Callable[[Sequence[Ingredient]], Rows], sampling: Sampling
) -> dict[str, str]:
    """Why each of the videos that rows would show cannot be read, until all rows that are left can be shown."""

    def wrong(path: str) -> str | None:
        try:
            read_video(path, sampling)
        # Whatever is wrong with one video ends no training.
        except Exception as error:
            return in_words(error)
        return None

    reasons: dict[str, str] = {}
    seen: set[str] = set()
    with ThreadPoolExecutor() as pool:
        while True:
            rows = lay_out(_without(ingredients, reasons))
            shown = dict.fromkeys(path for row in rows for path in video_paths(row["prompt"]) if path not in seen)
            if not shown:
                return reasons
            found = track(pool.map(wrong, shown), f"{len(shown)} videos: can they be read?", total=len(shown))
            reasons |= {path: reason for path, reason in zip(shown, found, strict=True) if reason is not None}
            seen |= shown.keys()


def _without(ingredients: Iterable[Ingredient], reasons: dict[str, str]) -> list[Ingredient]:
    left: list[Ingredient] = []
    for ingredient in ingredients:
        items = [item for item in ingredient.reading.items if not reasons.keys() & _paths(item)]
        if ingredient.reading.items and not items:
            name, first = ingredient.reading.name, next(iter(reasons.values()))
            raise InputError(f"{name}: none of its videos can be read, such as: {first}")
        left.append(replace(ingredient, reading=replace(ingredient.reading, items=items)))
    return left


def _paths(item: Item) -> set[str]:
    if isinstance(item, PreferenceItem):
        return {item.first, item.second}
    return set(item.paths) if isinstance(item, QuestionItem) else {item.path}

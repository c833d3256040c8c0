"""Videos that cannot be read, found before a training that may meet them first after hours."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    ingredients: Sequence[Ingredient], lay_out: Callable[[Sequence[Ingredient]], Rows], sampling: Sampling,
    output: Path, *, alike: bool = False,
) -> Rows:  # fmt: skip
    """What ``lay_out`` makes of ``ingredients`` without the items whose video cannot be read, as ``sampling`` does, and
    where they have to be ``alike`` without pairs of videos that show other numbers of frames.

    Only videos that rows show are looked at, each once. ``output`` gets ``unreadable.json``, with each one's reason, so
    that a resumed training sees the same rows; the terminal says how many. Raises InputError where nothing is left.
    """
    kept = output / "unreadable.json"
    if processes().is_main_process and not kept.exists():
        write_json(kept, _unreadable(ingredients, lay_out, sampling, alike))
    processes().wait_for_everyone()
    reasons = read_json(kept)
    if reasons and processes().is_main_process:
        console.print(
            f"warning: {len(reasons)} {'videos or pairs' if alike else 'videos'} cannot be "
            f"{'shown' if alike else 'read'}, and their items are left out; see {kept}. The first: "
            f"{next(iter(reasons.values()))}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    return lay_out(_without(ingredients, reasons))


def _unreadable(
    ingredients: Sequence[Ingredient], lay_out: Callable[[Sequence[Ingredient]], Rows], sampling: Sampling, alike: bool
) -> dict[str, str]:
    """Why each of the videos that rows would show cannot be read, until all rows that are left can be shown; of a pair
    of unlike length under the names of both.
    """

    def looked_at(path: str) -> int | str:
        try:
            return len(read_video(path, sampling).frames)
        # Whatever is wrong with one video ends no training.
        except Exception as error:
            return in_words(error)

    reasons: dict[str, str] = {}
    frames: dict[str, int | str] = {}
    with ThreadPoolExecutor() as pool:
        while True:
            rows = lay_out(_without(ingredients, reasons))
            paths = [video_paths(row["prompt"]) for row in rows]
            shown = dict.fromkeys(path for pair in paths for path in pair if path not in frames)
            found = track(pool.map(looked_at, shown), f"{len(shown)} videos: can they be read?", total=len(shown))
            frames |= zip(shown, found, strict=True)
            new = {path: reason for path in shown if isinstance(reason := frames[path], str)}
            if alike:
                new |= {_both(pair): reason for pair in paths if (reason := _unlike(pair, frames)) is not None}
            if not new:
                return reasons
            reasons |= new


def _both(paths: Sequence[str]) -> str:
    # Whichever is shown first.
    return " / ".join(sorted(paths))


def _unlike(paths: Sequence[str], frames: Mapping[str, int | str]) -> str | None:
    """Why videos at ``paths``, which can be read, cannot be compared."""
    shown = [frames[path] for path in paths]
    if len(set(shown)) < 2 or any(isinstance(count, str) for count in shown):
        return None
    counts = " and ".join(str(frames[path]) for path in sorted(paths))
    return f"{_both(paths)} show {counts} frames, and networks compare what shows as many; give num_frames."


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
        return {item.first, item.second, _both((item.first, item.second))}
    return set(item.paths) if isinstance(item, QuestionItem) else {item.path}

"""What is sent to be watched when a round's generator is measured: its figures, and videos beside the base's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignment.training.tracking import Tracker
from pipelines.loop.held_out import HeldOut
from pipelines.loop.summaries import MeasureSummary
from videoduet.processes import processes
from videoduet.progress import console
from videoduet.store import read_json, write_json

SHOWN = 4
"""Held-out prompts whose videos are shown: the first ones, in every round the same."""
TAG = 60
"""Characters of a prompt that a video's name holds."""
SENT = "watched.json"
"""In a measurement's folder, to what it was sent."""


def figures(summary: MeasureSummary) -> dict[str, float]:
    """What was measured of a version, by the names that it has wherever it is watched."""
    found: dict[str, Any] = {}
    for judge, rate in (summary.win_rate or {}).items():
        found[f"measure/win_rate/{judge}"] = rate.get("rate")
        found |= {f"measure/win_rate/{judge}/{end}": rate.get(end) for end in ("low", "high")}
    for change in (summary.drift or {}).get("changes") or ():
        found[f"measure/drift/{change['name']}"] = change["change"]
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def watched(held_out: HeldOut, summary: MeasureSummary, number: int, *, tracker: str, events: Path) -> bool:
    """Whether what was measured of G_``number``, and its videos of the first prompts beside the base's, was sent to
    ``tracker`` (see :class:`alignment.training.tracking.Tracker`) as those of step ``number``.
    """
    sent = Tracker(tracker, events, here=processes().is_main_process)
    if sent.tracker is None:
        return not sent.failed
    sent.log(figures(summary), step=number)
    places = {prompt.id: place for place, prompt in enumerate(held_out.prompts[:SHOWN])}
    texts = {prompt.id: prompt.text for prompt in held_out.prompts[:SHOWN]}
    shown: dict[str, tuple[str | Path, str]] = {}
    for new, old in held_out.beside(number):
        if new.prompt_id in places and new.index == 0:
            name = f"videos/{places[new.prompt_id]} {texts[new.prompt_id][:TAG]}"
            shown[f"{name}/base"] = (old.video_path, f"base: {texts[new.prompt_id]}")
            shown[f"{name}/current"] = (new.video_path, f"{new.generator}: {texts[new.prompt_id]}")
    sent.videos(shown, step=number)
    sent.finish()
    return not sent.failed


def send_measured(
    held_out: HeldOut, measured: Mapping[int, tuple[MeasureSummary, Path]], *, tracker: str, events: Path
) -> None:
    """Send of the measurements, each with its folder, by the number of the version, those that were not sent yet: also
    what a service did not take when it was measured.
    """
    for number, (summary, folder) in measured.items():
        if tracker == "none" or ((file := folder / SENT).exists() and read_json(file)["tracker"] == tracker):
            continue
        if watched(held_out, summary, number, tracker=tracker, events=events):
            write_json(file, {"tracker": tracker})
        else:
            told = (
                f"What was measured of G_{number} was not sent; it is sent with what is measured next, or with score."
            )
            console.print(told, markup=False, soft_wrap=True)

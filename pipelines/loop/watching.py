"""What is sent to be watched when a round's generator is measured: its figures, and videos beside the base's."""

from pathlib import Path
from typing import Any

from alignment.training.tracking import Tracker
from pipelines.loop.held_out import HeldOut
from pipelines.loop.summaries import MeasureSummary
from videoduet.processes import processes

SHOWN = 4
"""Held-out prompts whose videos are shown: the first ones, in every round the same."""
TAG = 60
"""Characters of a prompt that a video's name holds."""


def figures(summary: MeasureSummary) -> dict[str, float]:
    """What was measured of a version, by the names that it has wherever it is watched."""
    found: dict[str, Any] = {}
    for judge, rate in (summary.win_rate or {}).items():
        found[f"measure/win_rate/{judge}"] = rate.get("rate")
        found |= {f"measure/win_rate/{judge}/{end}": rate.get(end) for end in ("low", "high")}
    for change in (summary.drift or {}).get("changes") or ():
        found[f"measure/drift/{change['name']}"] = change["change"]
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def watched(held_out: HeldOut, summary: MeasureSummary, number: int, *, tracker: str, events: Path) -> None:
    """Send what was measured of G_``number``, and its videos of the first prompts beside the base's, to ``tracker``
    (see :class:`alignment.training.tracking.Tracker`) as those of step ``number``.
    """
    sent = Tracker(tracker, events, here=processes().is_main_process)
    if sent.tracker is None:
        return
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

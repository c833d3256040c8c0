"""What a thought says before the answer: which video it speaks for, and how much it says of each."""

import re
from typing import Literal

from reward_model.parsing import parse_choice

Position = Literal["first", "second"]
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL | re.IGNORECASE)
_NOUN = r"(?:video|clip|option|candidate)\s*(?:number\s*|#)?"
_LABELS: dict[Position, re.Pattern[str]] = {
    "first": re.compile(rf"^\W*(?:1|a)\b|\b{_NOUN}(?:1|a|one)\b|\bfirst\b", re.IGNORECASE),
    "second": re.compile(rf"^\W*(?:2|b)\b|\b{_NOUN}(?:2|b|two)\b|\bsecond\b", re.IGNORECASE),
}
_TOTAL = re.compile(r"\b(?:total|overall|score|rating)\b\D{0,12}?(\d+(?:\.\d+)?)", re.IGNORECASE)
_HENCE = re.compile(r"^\W*(?:so|thus|hence|therefore|overall|in conclusion|in summary)\b[\s,:]*", re.IGNORECASE)


def thought(text: str) -> str | None:
    """What stands between ``<think>`` and ``</think>``; None where there is no thought."""
    found = _THOUGHT.search(text)
    return found[1].strip() if found and found[1].strip() else None


def _segments(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"[;\n]+|(?<=[.!?])\s+", text) if part.strip()]


def parts(text: str) -> dict[Position, str]:
    """What a thought says of each video. A sentence belongs to the one video that it names, or else to the one that was
    spoken of last; what names both belongs to neither.
    """
    said: dict[Position, list[str]] = {"first": [], "second": []}
    last: Position | None = None
    for segment in _segments(text):
        named: list[Position] = [position for position, label in _LABELS.items() if label.search(segment)]
        last = named[0] if len(named) == 1 else None if named else last
        if last:
            said[last].append(segment)
    return {position: " ".join(segments) for position, segments in said.items()}


def lengths(text: str) -> tuple[int, int]:
    """How many words a thought has for the first and for the second video."""
    said = parts(text)
    return len(said["first"].split()), len(said["second"].split())


def conclusion(text: str) -> Position | None:
    """Which video a thought speaks for: by its last sentence that names a better one, else by the totals that it gives
    both; None where it does neither.
    """
    for segment in reversed(_segments(text)):
        choice = parse_choice(_HENCE.sub("", segment))
        # A lone label is a heading, no verdict.
        if choice in ("first", "second") and len(segment.split()) > 2:
            return choice
    totals = {position: _TOTAL.findall(said) for position, said in parts(text).items()}
    if not all(totals.values()):
        return None
    first, second = float(totals["first"][-1]), float(totals["second"][-1])
    return None if first == second else "first" if first > second else "second"

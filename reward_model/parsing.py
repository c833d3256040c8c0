"""Reading a judge's answer. An answer that cannot be read is None, never a guess."""

import re
from typing import Literal

Choice = Literal["first", "second", "tie"]

_FIRST = {"1", "a", "first", "one"}
_SECOND = {"2", "b", "second", "two"}
_TIE = {"tie", "equal", "similar", "same", "draw", "neither", "both"}
_ANSWER = re.compile(r"<\s*answer\s*>(.*?)(?:<\s*/\s*answer\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_NOISE = re.compile(r"\b(?:video|clip|option|the|is|better|answer|one)\b(?!\s*$)|[*_`\"'.:()\[\]#>{}=\\]+|\b(?:video|clip|option)\b")


def _word(answer: str) -> Choice | None:
    text = " ".join(_NOISE.sub(" ", answer.strip().lower()).split())
    if text in _FIRST:
        return "first"
    if text in _SECOND:
        return "second"
    return "tie" if text in _TIE else None


def parse_choice(text: str) -> Choice | None:
    """Which video an answer names: 'first', 'second', 'tie', or None where it cannot be told.

    Reads ``<answer>…</answer>`` after the last ``</think>``; an unfinished closing tag is forgiven, a missing opening one is not.
    'Video A', '1', '**Video 1**' and 'first' all name the first. Answers that contradict each other are None.
    """
    closing = text.lower().rfind("</think>")
    verdicts = {_word(answer) for answer in _ANSWER.findall(text[closing + len("</think>") :] if closing >= 0 else text)}
    return verdicts.pop() if len(verdicts) == 1 else None

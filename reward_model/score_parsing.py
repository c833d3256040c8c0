"""Reading scores and words out of a judge's answer. What cannot be read is None, never a guess."""

import json
import math
import re
from collections.abc import Sequence

_THOUGHT_END = "</think>"
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def answer_text(text: str) -> str | None:
    """What stands in the last ``<answer>…</answer>``, stripped; one inside the thought counts only if there is no
    other. None where there is no answer.
    """
    said = _ANSWER.findall(text.rpartition(_THOUGHT_END)[2]) or _ANSWER.findall(text)
    return said[-1].strip() if said else None


def parse_score(text: str, *, first_number: bool = False) -> float | None:
    """The number that an answer is: '63.5', '1,024.0'; None for 'about 70', 'nan' and everything else.

    ``first_number`` takes the first number in the answer instead, whatever stands around it ('3.82 out of 5'), as
    VQAThinker does.
    """
    answer = answer_text(text)
    if answer is None:
        return None
    if first_number:
        found = _NUMBER.search(answer)
        return float(found[0]) if found else None
    try:
        value = float(answer.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_scores(text: str, dimensions: Sequence[str], *, strict: bool = False) -> dict[str, float] | None:
    """The scores of all ``dimensions`` in an answer of JSON, braces optional, in any order; None if one is missing.

    ``strict`` demands braces and exactly these keys in this order, as VQ-Insight's code does.
    """
    answer = answer_text(text)
    if answer is None:
        return None
    braced = answer if answer.startswith("{") or strict else "{" + answer + "}"
    try:
        values = json.loads(braced)
    except ValueError:
        return None
    if not isinstance(values, dict) or (strict and list(values) != list(dimensions)):
        return None
    scores = {name: values.get(name) for name in dimensions}
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in scores.values()):
        return None
    return {name: float(value) for name, value in scores.items()}


def parse_option(text: str, options: Sequence[str]) -> str | None:
    """Which of ``options`` ('yes', 'no'; 'A', 'B', 'C') an answer names: the option itself, or its letter followed by
    '.' or ')' and anything; case is forgiven. None for everything else.
    """
    answer = answer_text(text)
    if answer is None:
        return None
    word = re.split(r"[.)\s]", answer.lstrip("("), maxsplit=1)[0] if re.match(r"\(?[A-Za-z][.)]", answer) else answer
    return next((option for option in options if word.strip(" .!").lower() == option.lower()), None)

"""Reading options out of a judge's answer, and the rules of released code that :mod:`reward_model.parsing` is kinder
than.
"""

import json
import re
from collections.abc import Sequence

from reward_model.parsing import parse_scores

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def answer_text(text: str) -> str | None:
    """What stands in the last ``<answer>…</answer>``, stripped; one inside the thought counts only if there is no
    other. None where there is no answer.
    """
    said = _ANSWER.findall(text.rpartition("</think>")[2]) or _ANSWER.findall(text)
    return said[-1].strip() if said else None


def parse_option(text: str, options: Sequence[str]) -> str | None:
    """Which of ``options`` ('yes', 'no'; 'A', 'B', 'C') an answer names: the option itself, or its letter followed by
    '.' or ')' and anything; case is forgiven. None for everything else.
    """
    answer = answer_text(text)
    if answer is None:
        return None
    word = re.split(r"[.)\s]", answer.lstrip("("), maxsplit=1)[0] if re.match(r"\(?[A-Za-z][.)]", answer) else answer
    return next((option for option in options if word.strip(" .!").lower() == option.lower()), None)


def first_number(text: str) -> float | None:
    """The first number in an answer, whatever stands around it, as VQAThinker's code reads it ('2.71 then 3.14')."""
    found = _NUMBER.search(answer_text(text) or "")
    return float(found[0]) if found else None


def strict_scores(text: str, keys: Sequence[str]) -> dict[str, float] | None:
    """The numbers for ``keys`` in an answer that is a JSON object of exactly these keys in this order, as VQ-Insight's
    code demands.
    """
    try:
        values = json.loads(answer_text(text) or "")
    except ValueError:
        return None
    return parse_scores(text, keys) if isinstance(values, dict) and list(values) == list(keys) else None

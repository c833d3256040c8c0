"""Answers in forms of published judges that the rules of :mod:`reward_model.parsing` do not read.

As there, an answer that cannot be read is None, never a guess: a number off its scale, one that is missing or given
twice, a sum that cannot be.
"""

import re
from collections.abc import Callable, Sequence

from reward_model.parsing import Choice, answer_text

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_END = r"(?![0-9.]*[0-9])"
_SUM = 0.02
"""How far from 1 two scores may add up that are rounded to two digits."""
_RELATIVE = ("alignment", "coherence", "style")
"""The dimensions in which UnifiedReward-2.0 divides 1 between two videos."""


def _said(text: str) -> str:
    """What is said after the thought, without decoration, in lower case."""
    after = text.rpartition("</think>")[2]
    return (answer_text(after) or after).replace("*", "").strip().lower()


def relative_scores(text: str) -> dict[str, tuple[float, float]] | None:
    """The scores of both videos in each dimension of an answer of UnifiedReward-2.0 about two: "Alignment Score:",
    "Video 1: 0.47", "Video 2: 0.53" and so on, which add up to 1; None where it is anything else.
    """
    part = r"{} score:\s*video 1:\s*" + _NUMBER + r"\s*video 2:\s*" + _NUMBER + _END
    found = re.fullmatch(r"\s*".join(part.replace("{}", name) for name in _RELATIVE), _said(text))
    if found is None:
        return None
    values = [float(value) for value in found.groups()]
    scores: dict[str, tuple[float, float]] = {
        name: (values[2 * place], values[2 * place + 1]) for place, name in enumerate(_RELATIVE)
    }
    return scores if all(max(pair) <= 1 and abs(sum(pair) - 1) <= _SUM for pair in scores.values()) else None


def relative_choice(text: str) -> Choice | None:
    """The video whose scores add up to more in such an answer; 'tie' where both add up to the same."""
    if (scores := relative_scores(text)) is None:
        return None
    first, second = (round(sum(side), 6) for side in zip(*scores.values(), strict=True))
    return "tie" if first == second else "first" if first > second else "second"


def named_scores(text: str, keys: Sequence[str], scale: tuple[float, float] | None) -> dict[str, float] | None:
    """The scores in an answer of UnifiedReward-2.0 about one video: "Alignment Score (1-5): 2.4" and so on, for
    ``keys`` in their order and nothing else; None where one is off ``scale``.
    """
    part = r"{} score(?: \(1-5\))?:\s*" + _NUMBER + r"(?:\s*/\s*5)?" + _END
    found = re.fullmatch(r"\s*[,;]?\s*".join(part.replace("{}", re.escape(key)) for key in keys), _said(text))
    return _on(scale, keys, found)


def three_dimensions(text: str, keys: Sequence[str], scale: tuple[float, float] | None) -> dict[str, float] | None:
    """The scores with which an answer of VideoScore2 ends: "visual quality: 3; text-to-video alignment: 4, …", or
    the same as a numbered list, with the words of the question between name and number; whole numbers, for ``keys`` in
    their order, each once.
    """
    part = r"(?:\(?[0-9]\)?[.)]?\s*|-\s*)?{}[^:\n;0-9]*:\s*([0-9]+)(?:\s*/\s*5)?" + _END
    said = _said(text)
    pattern = r"\s*[;,.]?\s*".join(part.replace("{}", re.escape(key)) for key in keys)
    ends = re.search(rf"(?:^|\s){pattern}\s*[;.]?$", said)
    once = all(len(re.findall(rf"{re.escape(key)}[^:\n;0-9]*:\s*[0-9]", said)) == 1 for key in keys)
    return _on(scale, keys, ends if once else None)


def _on(
    scale: tuple[float, float] | None, keys: Sequence[str], found: "re.Match[str] | None"
) -> dict[str, float] | None:
    if found is None:
        return None
    scores = {key: float(value) for key, value in zip(keys, found.groups(), strict=True)}
    return scores if scale is None or all(scale[0] <= value <= scale[1] for value in scores.values()) else None


CHOICES: dict[str, Callable[[str], Choice | None]] = {"relative": relative_choice}
"""Rules for comparisons, by the name that a wording gives."""
Scores = Callable[[str, Sequence[str], tuple[float, float] | None], dict[str, float] | None]
SCORES: dict[str, Scores] = {"named": named_scores, "three_dimensions": three_dimensions}
"""Rules for scores."""

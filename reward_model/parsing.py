"""Reading a judge's answer: the one place that knows of ``<think>`` and ``<answer>``.

An answer that cannot be read is None, never a guess. ``parse_choice``, ``parse_score`` and ``parse_scores`` forgive
what a person would; ``parse_option``, ``first_number`` and ``strict_scores`` are the rules of released code, which take
the last answer there is.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from videoduet.store import JSON

Choice = Literal["first", "second", "tie"]
Value = TypeVar("Value")

_OPEN, _CLOSE = re.compile(r"<\s*answer\s*>"), re.compile(r"<\s*/\s*answer\s*>")
_CLOSING_TAG = "</answer>"
_DECORATION = re.compile(r"[\s*_`\"'“”‘’.,:;()\[\]{}#\\]+")

_NOUN = r"(?:video|clip|option|choice|candidate)"
_INTRODUCTION = rf"(?:(?:the )?(?:final |correct )?answer (?:is )?|the (?:better|best) (?:{_NOUN}|one) is )?"
_PRAISE = r"(?: is (?:the )?(?:better|best|preferred|winner)(?: one| video| clip| option)?| wins)?"
_TIE = re.compile(
    _INTRODUCTION + r"(?:(?:it is |it s )?(?:a )?(?:tie|draw)"
    rf"|(?:they are |(?:both|the) (?:{_NOUN}s )?are )?(?:about )?(?:tied|equal|equally good|similar|the same|same)"
    rf"|neither(?: {_NOUN})?{_PRAISE}|both)"
)


def _named(sign: str, word: str, ordinal: str) -> re.Pattern[str]:
    # A number word alone is an answer, but "one is better" may mean one of the two.
    label = rf"(?:{sign}|(?:the )?{_NOUN} (?:number )?(?:{sign}|{word})|(?:the )?{ordinal}(?: {_NOUN}| one)?)"
    return re.compile(rf"{_INTRODUCTION}(?:{word}|{label}{_PRAISE})")


_PATTERNS: dict[Choice, re.Pattern[str]] = {
    "first": _named("[1a]", "one", "(?:first|1st)"),
    "second": _named("[2b]", "two", "(?:second|2nd)"),
    "tie": _TIE,
}


def _choice(answer: str) -> Choice | None:
    """What an answer names if it says that and nothing else; decoration becomes space, so that it never joins words."""
    text = _DECORATION.sub(" ", answer.rstrip("! \n")).strip()
    return next((choice for choice, pattern in _PATTERNS.items() if pattern.fullmatch(text)), None)


def _without_cut_tag(text: str) -> str:
    """``text`` without a closing tag that was cut off inside, as a limit on tokens does."""
    cut = next((n for n in range(len(_CLOSING_TAG) - 1, 0, -1) if text.endswith(_CLOSING_TAG[:n])), 0)
    return text[: len(text) - cut]


def _read(text: str, reading: Callable[[str], Value | None]) -> Value | None:
    """What ``reading`` makes of the answer in lower-case ``text``; None where its answers are several that differ."""
    text = text.strip()
    text = text[text.rfind("</think>") + len("</think>") :] if "</think>" in text else text
    before, *blocks = _OPEN.split(text)
    if not blocks:
        return reading(text)
    answers = [_CLOSE.split(block, maxsplit=1) for block in blocks]
    if "<think>" in text and ("<think>" not in before or len(answers[-1]) == 1 or answers[-1][1].strip()):
        return None
    first, *others = [reading(parts[0] if len(parts) > 1 else _without_cut_tag(parts[0])) for parts in answers]
    return first if all(other == first for other in others) else None


def parse_choice(text: str) -> Choice | None:
    """Which video an answer names: 'first', 'second', 'tie', or None where it cannot be told.

    Reads ``<answer>…</answer>`` after the last ``</think>``; a missing or cut closing tag is forgiven. 'Video A', '1',
    '**Video 1**' and 'the first video is better' all name the first. Without tags, the text there must be such a
    choice and nothing else. None: a refusal, answers that differ, an answer with more in it ('1 or 2', 'Video 1 is not
    better'), and an answer inside a thought that is not closed, unless it is complete and the last word.
    """
    return _read(text.lower(), _choice)


_NUMBER = r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?"
_OUT_OF = r"(?: ?(?:/|out of) ?([0-9]+)(?:\.0)?)?"
_SCORE = re.compile(
    rf"[\s*_`\"']*(?:(?:the |my |final |overall |quality )*(?:score|rating|answer|quality)(?: is|:| =)[\s*_`]*)?"
    rf"({_NUMBER}){_OUT_OF}[\s*_`\"'.]*"
)
FULL_SCALES = (5, 10, 100)
"""What scores are given out of when nobody said out of what."""
_RATING = re.compile(rf"\{{\s*[\"']?(?:score|rating|quality)[\"']?\s*:\s*[\"']?({_NUMBER}){_OUT_OF}[\"']?\s*\}}")
_ENTRY = re.compile(
    rf"[\s*\"'“”]*([^\W\d_][^:\"'“”*,{{}}\[\]]*?)[\s*\"'“”]*[:=][\s*\"'“”]*({_NUMBER}){_OUT_OF}[\s*\"'“”]*"
)


def parse_score(text: str, scale: tuple[float, float] | None = None) -> float | None:
    """The number an answer gives, finite, or None where it gives none or several.

    Reads where :func:`parse_choice` reads. '63.5', '1,024.0', '**70**', 'Score: 3.82 out of 5', '70/100' and
    '{"rating": 4.2}' are numbers; 'about 70', '2 or 3', '60-70' and 'nan' are not.

    ``scale`` (low, high) is what the number was asked for on: one out of another full scale is moved there from 0 to
    that ('3/5' on 0 to 100 is 60), and one out of anything else cannot be read. Without it the number alone counts.
    """
    return _read(text.lower(), lambda answer: _score(answer, scale))


def _score(answer: str, scale: tuple[float, float] | None) -> float | None:
    answer = _without_fence(answer)
    match = _RATING.fullmatch(answer) or _SCORE.fullmatch(answer)
    return None if match is None else _on_scale(match[1], match[2], scale)


def _on_scale(number: str, full: str | None, scale: tuple[float, float] | None) -> float | None:
    """The value of ``number`` out of ``full`` (None: nothing is said) on ``scale``; None where it cannot be told."""
    value = _finite(number)
    if value is None or scale is None or full is None or float(full) == scale[1]:
        return value
    if int(full) not in FULL_SCALES or not 0 <= value <= int(full):
        return None
    return scale[0] + value / int(full) * (scale[1] - scale[0])


def _without_fence(answer: str) -> str:
    """``answer`` out of a Markdown block of code, its spaces made single and its lines kept."""
    answer = answer.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    return "\n".join(" ".join(line.split()) for line in answer.strip().splitlines())


def _finite(number: str) -> float | None:
    value = float(number.replace(",", ""))
    return value if math.isfinite(value) else None


def parse_scores(text: str, keys: Sequence[str], scale: tuple[float, float] | None = None) -> dict[str, float] | None:
    """The numbers an answer gives for ``keys``, in their order, or None unless it gives exactly one for each.

    Reads where :func:`parse_choice` reads: a JSON object, whose braces, quotes and order do not matter, or one
    ``key: number`` a line. Case does not matter; other keys are passed over, but anything that is no ``key: number``
    makes the answer unreadable. A number out of something is read as :func:`parse_score` reads it on ``scale``, which
    must be known.
    """
    scores = _read(text.lower(), lambda answer: _scores(answer, scale))
    wanted = [key.lower().strip() for key in keys]
    if scores is None or not wanted or not scores.keys() >= set(wanted):
        return None
    return {key: scores[name] for key, name in zip(keys, wanted, strict=True)}


def _scores(answer: str, scale: tuple[float, float] | None) -> dict[str, float] | None:
    answer = _without_fence(answer)
    braces = answer.startswith("{"), answer.endswith("}")
    if braces[0] != braces[1]:
        return None
    scores: dict[str, float] = {}
    # A comma ends an entry, so none may stand inside a number here.
    for entry in re.split(r"[,;\n]", answer[1:-1] if all(braces) else answer):
        if not entry.strip():
            continue
        if (match := _ENTRY.fullmatch(entry)) is None:
            return None
        if match[3] is not None and scale is None:
            return None
        value = _on_scale(match[2], match[3], scale)
        if value is None or scores.setdefault(match[1], value) != value:
            return None
    return scores or None


def read_scores(
    text: str, keys: Sequence[str] = (), scale: tuple[float, float] | None = None
) -> dict[str, float] | None:
    """The scores in an answer for ``keys`` (none: a single one, whose key is ""); None where one is missing or outside
    ``scale`` (None: any number will do).
    """
    if keys:
        scores = parse_scores(text, keys, scale)
    else:
        score = parse_score(text, scale)
        scores = None if score is None else {"": score}
    low, high = scale or (-math.inf, math.inf)
    return scores if scores and all(low <= value <= high for value in scores.values()) else None


def described(text: str) -> str:
    """The words of an answer, without thought and tags."""
    return text.rpartition("</think>")[2].replace("<answer>", "").replace("</answer>", "").strip()


_FORMAT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


def keeps_format(text: str) -> bool:
    """Whether a completion is ``<think>…</think><answer>…</answer>`` from its first character to its last."""
    return _FORMAT.fullmatch(text) is not None


_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


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
    found = _PLAIN_NUMBER.search(answer_text(text) or "")
    return float(found[0]) if found else None


def strict_scores(text: str, keys: Sequence[str]) -> dict[str, float] | None:
    """The numbers for ``keys`` in an answer that is a JSON object of exactly these keys in this order, as VQ-Insight's
    code demands.
    """
    try:
        values: JSON = json.loads(answer_text(text) or "")
    except ValueError:
        return None
    return parse_scores(text, keys) if isinstance(values, dict) and list(values) == list(keys) else None

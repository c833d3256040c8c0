"""Reading a judge's answer. An answer that cannot be read is None, never a guess."""

import re
from typing import Literal

Choice = Literal["first", "second", "tie"]

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


def parse_choice(text: str) -> Choice | None:
    """Which video an answer names: 'first', 'second', 'tie', or None where it cannot be told.

    Reads ``<answer>…</answer>`` after the last ``</think>``; a missing or cut closing tag is forgiven. 'Video A', '1',
    '**Video 1**' and 'the first video is better' all name the first. Without tags, the text there must be such a
    choice and nothing else. None: a refusal, answers that differ, an answer with more in it ('1 or 2', 'Video 1 is not
    better'), and an answer inside a thought that is not closed, unless it is complete and the last word.
    """
    text = text.lower().strip()
    text = text[text.rfind("</think>") + len("</think>") :] if "</think>" in text else text
    before, *blocks = _OPEN.split(text)
    if not blocks:
        return _choice(text)
    answers = [_CLOSE.split(block, maxsplit=1) for block in blocks]
    if "<think>" in text and ("<think>" not in before or len(answers[-1]) == 1 or answers[-1][1].strip()):
        return None
    choices = {_choice(parts[0] if len(parts) > 1 else _without_cut_tag(parts[0])) for parts in answers}
    return choices.pop() if len(choices) == 1 else None

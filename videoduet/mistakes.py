"""What jsonargparse says of a value that is of another type, as a person says it."""

import re

WRONG_VALUE = re.compile(r'[Kk]ey "([^"]+)":? (?:.*)Expected an? (.+?)\. Got value: (.*)$')
"""How it says that a value is of another type."""
WRONG_IN_ALL_WAYS = re.compile(
    r'[Kk]ey "([^"]+)": Does not validate against any of the Union subtypes Subtypes: \[(.+)\] Errors: '
    r".* Given value: (.*)$"
)
"""The same of a value that may be of several types."""
TYPE = re.compile(r"<class '[\w.]+'>|(?:typing\.)?Literal\[[^\]]*\]|\w+")
PLAIN = {"NoneType": "null", "int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def wrong_value(sentence: str) -> str | None:
    """Which option has which value, and what it may have; None where ``sentence`` says something else."""
    if wrong := WRONG_VALUE.search(sentence):
        name, expected, value = wrong.groups()
        return f"{name} is {value}; give {_expectation(expected)}."
    if wrong := WRONG_IN_ALL_WAYS.search(sentence):
        name, expected, value = wrong.groups()
        return f"{name} is {value}; give {' or '.join(map(_expectation, TYPE.findall(expected)))}."
    return None


def _expectation(expected: str) -> str:
    """A type as a person says it: ``typing.Literal['a', 'b']`` is one of a, b."""
    if literal := re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", expected):
        words = literal[1].replace("'", "")
        return f"one of {words}" if "," in words else words
    plain = re.sub(r"<class '([\w.]+)'>", r"\1", expected).replace("typing.", "")
    return PLAIN.get(plain, plain)

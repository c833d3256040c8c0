"""Questions put to a judge chunk by chunk, whose answers are kept as they come."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from reward_model.judging.base import VideoJudge
from reward_model.questions import Question
from videoduet.errors import InputError
from videoduet.progress import track
from videoduet.store import read_json, write_json

T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[tuple[int, Sequence[T]]]:
    """``items`` in parts of ``size``, each with the place of its first."""
    return [(start, items[start : start + size]) for start in range(0, len(items), size)]


def asked(
    items: Sequence[T], question: Callable[[T], Question], judge: VideoJudge, folder: Path, size: int, what: str
) -> list[str | None]:
    """The judge's answer to the ``question`` about every item, kept in ``folder`` in parts of ``size``; None where a
    video cannot be read.

    Raises InputError where a backend does not answer, which is no fact about the judge: the same command asks again.
    """
    answers: list[str | None] = []
    for start, chunk in track(chunks(items, size), what):
        path = folder / f"{start:07d}.json"
        if not path.exists():
            found = list(judge.answer(question(item) for item in chunk))
            if lost := next((answer.error for answer in found if answer.lost), None):
                raise InputError(lost)
            write_json(path, [answer.text if answer.error is None else None for answer in found])
        kept = read_json(path)
        if len(kept) != len(chunk):
            raise InputError(f"{path} holds {len(kept)} answers to {len(chunk)} questions; give another --output.")
        answers += kept
    return answers

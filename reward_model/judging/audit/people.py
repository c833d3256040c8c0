"""Whether a judge agrees with people, where their votes are known."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reward_model.inputs import as_video
from reward_model.judging.audit.asking import Ask, Asker, Opinion
from reward_model.judging.audit.findings import Measures
from reward_model.judging.audit.significance import measured
from reward_model.metrics import preference_accuracy
from videoduet.errors import InputError
from videoduet.records import LabelledPair, Prompt, Verdict
from videoduet.tables import read_table

AGREES = 0.55
"""Of the pairs that people decided: a judge below agrees hardly more than by chance."""


@dataclass(frozen=True)
class Vote:
    """What people said of two videos."""

    ask: Ask
    preferred: Verdict


def as_votes(votes: Iterable[LabelledPair | Vote]) -> list[Vote]:
    """Labelled pairs as votes."""
    return [vote if isinstance(vote, Vote) else _vote(vote) for vote in votes]


def _vote(label: LabelledPair) -> Vote:
    ends = (label.first, label.second) if label.preferred == "first" else (label.second, label.first)
    return Vote(Ask(label.prompt, *ends, label.prompt.id), "first")


def read_votes(path: str | Path) -> list[Vote]:
    """The votes in a table with the columns first, second, prompt, preferred (first, second or tie); paths are relative
    to it. Raises InputError naming what cannot be read.
    """
    path, found = Path(path), list[Vote]()
    if not path.is_file():
        raise InputError(f"Votes {path} do not exist; give a CSV, JSON Lines or parquet file.", exit_code=2)
    for number, row in enumerate(read_table(path).rows(["first", "second", "prompt", "preferred"]), 1):
        said = str(row["preferred"]).strip().lower()
        if said not in ("first", "second", "tie"):
            raise InputError(f"{path}, row {number}: preferred is {said!r}; give first, second or tie.")
        first, second = (as_video(path.parent / str(row[side]))[0] for side in ("first", "second"))
        ends = (second, first) if said == "second" else (first, second)
        prompt = Prompt.of(str(row["prompt"] or ""))
        found.append(
            Vote(Ask(prompt, *ends, prompt.id if prompt.text else f"{number}"), "tie" if said == "tie" else "first")
        )
    return found


def agreement(asker: Asker, votes: Sequence[Vote]) -> tuple[Measures, list[Opinion]]:
    """``diff``, how often the judge is right of the pairs that people decided, and ``tau``, of all pairs, where a
    verdict less sure than a threshold counts as a tie (as in :func:`reward_model.metrics.preference_accuracy`); and the
    pairs on which it disagrees.
    """
    asked = [(vote, opinion) for vote in votes for opinion in asker.opinions([vote.ask]) if opinion.readable]
    if not asked:
        return [], []
    human = [int(vote.preferred != "tie") for vote, _ in asked]
    margins = [opinion.score - 0.5 for _, opinion in asked]
    threshold = float(preference_accuracy(human, margins)["threshold"])
    decided = [(opinion.ask.cluster, opinion.score) for vote, opinion in asked if vote.preferred != "tie"]
    right = [
        (opinion.ask.cluster, float((abs(margin) <= threshold) if vote.preferred == "tie" else margin > threshold))
        for (vote, opinion), margin in zip(asked, margins, strict=True)
    ]
    wrong = [opinion for vote, opinion in asked if vote.preferred != "tie" and opinion.score < 0.5]
    return [measured("diff", decided, least=AGREES), measured("tau", right)], wrong

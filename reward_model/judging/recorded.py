"""Verdicts that were given before, as a judge: comparisons are paid for once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reward_model.judging.base import PairwiseJudge
from reward_model.judging.build import build_judge
from videoduet.errors import InputError
from videoduet.records import Comparison, VideoPair
from videoduet.store import read_records


class RecordedJudge:
    """Gives the verdicts in ``comparisons.parquet`` of a data set that ``pipelines.share`` wrote, by the content of
    the two videos, whichever came first.

    Where several judges have looked at the same two, the one called ``judge_id`` is meant, and without it the first.
    What nobody has looked at is asked of the judge that ``otherwise`` names, by the arguments of
    :func:`reward_model.judging.build.build_judge`; without one InputError names the two videos.
    """

    def __init__(self, path: str, judge_id: str | None = None, otherwise: Mapping[str, Any] | None = None):
        table = Path(path) / "comparisons.parquet"
        if not table.is_file():
            raise InputError(f"{path} has no comparisons.parquet; give a folder that pipelines.share wrote.")
        self._given: dict[tuple[str, str, str], Comparison] = {}
        for comparison in read_records(Comparison, table):
            if judge_id in (None, comparison.judge_id):
                key = (comparison.prompt_id, comparison.first_id, comparison.second_id)
                self._given.setdefault(key, comparison)
        self._otherwise: PairwiseJudge | None = None
        self._build = None if otherwise is None else dict(otherwise)

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """The recorded comparison of each pair, in the pair's order, or the other judge's."""
        for pair in pairs:
            found = self._found(pair)
            if found is None:
                found = next(iter(self._asked(pair).compare([pair])))
            yield found

    def _found(self, pair: VideoPair) -> Comparison | None:
        prompt, first, second = pair.prompt.id, pair.first.id, pair.second.id
        if found := self._given.get((prompt, first, second)):
            return found
        other = self._given.get((prompt, second, first))
        if other is None or other.backward is None:
            return None
        p_first = None if other.p_first is None else 1 - other.p_first
        turned = Comparison.of(pair, other.judge_id, other.backward, other.forward, p_first)
        return replace(turned, status=other.status)

    def _asked(self, pair: VideoPair) -> PairwiseJudge:
        if self._otherwise is None:
            if self._build is None:
                raise InputError(
                    f"No verdict on {pair.first.path} and {pair.second.path} is recorded; give "
                    "judge.arguments.otherwise, a judge to ask."
                )
            self._otherwise = build_judge(**self._build)
        return self._otherwise

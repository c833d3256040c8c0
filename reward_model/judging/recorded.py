"""Verdicts that were given before, as a judge: comparisons are paid for once."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reward_model.judging.base import PairwiseJudge, in_order
from reward_model.judging.build import build_judge
from videoduet.errors import InputError
from videoduet.records import Comparison, VideoPair
from videoduet.store import read_records

AT_ONCE = 256
"""Pairs looked up before the other judge is asked about those that are not there: it answers many faster than one."""


class RecordedJudge:
    """Gives the verdicts in ``comparisons.parquet`` of a data set that ``pipelines.share`` wrote, by the content of
    the two videos, whichever came first.

    Where several judges have looked at the same two, the one called ``judge_id`` is meant, and without it the one that
    comes first in the table, whichever video is shown first; a verdict in one order alone serves that order alone. What
    is not there is asked of the judge that ``otherwise`` names, by the arguments of
    :func:`reward_model.judging.build.build_judge`; without one InputError names the two videos.
    """

    def __init__(self, path: str, judge_id: str | None = None, otherwise: Mapping[str, Any] | None = None):
        table = Path(path) / "comparisons.parquet"
        if not table.is_file():
            raise InputError(f"{path} has no comparisons.parquet; give a folder that pipelines.share wrote.")
        self._given: dict[tuple[str, frozenset[str]], Comparison] = {}
        for comparison in read_records(Comparison, table):
            if judge_id in (None, comparison.judge_id):
                self._given.setdefault(
                    _key(comparison.prompt_id, comparison.first_id, comparison.second_id), comparison
                )
        self._otherwise: PairwiseJudge | None = None
        self._build = None if otherwise is None else dict(otherwise)

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """The recorded comparison of each pair, or the other judge's, asked about many at once, in the order of the
        pairs; as any judge, that one leaves out what it cannot be shown.
        """
        waiting = iter(pairs)
        while window := list(itertools.islice(waiting, AT_ONCE)):
            found = [self._found(pair) for pair in window]
            unknown = [pair for pair, known in zip(window, found, strict=True) if known is None]
            yield from in_order(window, found, self._asked(unknown[0]).compare(unknown) if unknown else ())

    def _found(self, pair: VideoPair) -> Comparison | None:
        known = self._given.get(_key(pair.prompt.id, pair.first.id, pair.second.id))
        if known is None or known.first_id == pair.first.id:
            return known
        if known.backward is None:
            return None
        p_first = None if known.p_first is None else 1 - known.p_first
        turned = Comparison.of(pair, known.judge_id, known.backward, known.forward, p_first)
        return replace(turned, status=known.status)

    def _asked(self, pair: VideoPair) -> PairwiseJudge:
        if self._otherwise is None:
            if self._build is None:
                raise InputError(
                    f"No verdict on {pair.first.path} and {pair.second.path} is recorded; give "
                    "judge.arguments.otherwise, a judge to ask."
                )
            self._otherwise = build_judge(**self._build)
        return self._otherwise


def _key(prompt_id: str, first_id: str, second_id: str) -> tuple[str, frozenset[str]]:
    return prompt_id, frozenset((first_id, second_id))

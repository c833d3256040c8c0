"""What AIGV-Assessor's stages minimise: language loss, L1 of the scores, cross-entropy of the pairs."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reward_model.families.assessor import Asked, Assessor, level_of
from reward_model.families.base import plain_model
from reward_model.families.pairs import Looked
from reward_model.families.scores import PAIRS

KEPT_BYTES = 4 * 2**30
"""What is kept of videos that a frozen judge has looked at."""


class AssessorLoss(nn.Module):
    """The loss of rows (:class:`reward_model.training.assessed_rows.Lessons`) in a ``stage``, as a module, so that
    several processes can share it.
    """

    def __init__(self, assessor: Assessor, stage: str):
        super().__init__()
        self.assessor, self.stage = assessor, stage
        self._looked: OrderedDict[tuple[str, str], Looked] = OrderedDict()
        self._bytes = 0

    def forward(self, rows: Sequence[dict[str, Any]]) -> Tensor:
        """The losses (B,) of ``rows``: a row's is the mean over the dimensions in which something is known."""
        target = torch.tensor([row["target"] for row in rows], device=self.assessor.device)
        known = target.isfinite()
        if self.stage == "levels":
            losses = self._levels(rows, target.nan_to_num(0.5))
        elif self.stage == "scores":
            losses = (self.scores(rows) - target.nan_to_num()).abs()
        else:
            losses = F.binary_cross_entropy_with_logits(self.logits(rows), target.nan_to_num(), reduction="none")
        return (losses * known).sum(1) / known.sum(1)

    def scores(self, rows: Sequence[dict[str, Any]]) -> Tensor:
        """Scores (B, dimensions), MOS / 100."""
        return self.assessor.scores(self.assessor.before_levels([self._asked(row) for row in rows]))

    def logits(self, rows: Sequence[dict[str, Any]]) -> Tensor:
        """Logits (B, dimensions) that the first of two videos is better: pairs of as many frames together."""
        pairs = [(self._looked_at(row, 0), self._looked_at(row, 1)) for row in rows]
        lengths = [first.layers[0].shape[1] for first, _ in pairs]
        found: dict[int, Tensor] = {}
        for length in sorted(set(lengths)):
            places = [place for place, other in enumerate(lengths) if other == length]
            first, second = (_together([pairs[place][side] for place in places]) for side in (0, 1))
            found |= dict(zip(places, self.assessor.pair_logits(first, second), strict=True))
        return torch.stack([found[place] for place in range(len(rows))])

    def _levels(self, rows: Sequence[dict[str, Any]], target: Tensor) -> Tensor:
        """The mean cross-entropy on the tokens of each answer (B, dimensions)."""
        asked = [
            self._asked(row, [level_of(t) for t in wanted]) for row, wanted in zip(rows, target.tolist(), strict=True)
        ]
        return torch.stack([
            torch.stack([F.cross_entropy(logits.float(), ids) for logits, ids in found])
            for found in self.assessor.answer_logits(asked)
        ])  # fmt: skip

    def _asked(self, row: dict[str, Any], answers: Sequence[str] | None = None, side: int = 0) -> Asked:
        return self.assessor.asked(row["videos"][side], row["text"], answers=answers)

    def _looked_at(self, row: dict[str, Any], side: int) -> Looked:
        """What the frozen judge makes of a video, each of which it looks at alone, so that no bit depends on others."""
        key = (row["videos"][side], row["text"])
        if key not in self._looked:
            layers = getattr(plain_model(self.assessor.model), PAIRS).layers
            with torch.no_grad():
                found = self.assessor.looked([self._asked(row, side=side)], layers)
            self._looked[key] = found
            self._bytes += _size(found)
        self._looked.move_to_end(key)
        found = self._looked[key]
        while self._bytes > KEPT_BYTES and len(self._looked) > 1:
            self._bytes -= _size(self._looked.popitem(last=False)[1])
        return found


def _size(looked: Looked) -> int:
    return sum(layer.nbytes for layer in looked.layers) + looked.before.nbytes


def _together(looked: Sequence[Looked]) -> Looked:
    layers = [torch.cat(each) for each in zip(*(one.layers for one in looked), strict=True)]
    return Looked(layers, torch.cat([one.before for one in looked]))

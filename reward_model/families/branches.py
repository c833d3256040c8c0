"""Several questions about one video as one row: what they have in common is read once, then each goes its own way.

A row is the tokens that all questions begin with (the video among them), and then what is left of each, one after the
other. A token sees what is before it in common and in its own question, at the places that it would have alone, so each
question is read as if it were asked by itself, and a row that is padded as if it were the longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Branched:
    """A row: the tokens ``common`` to all questions, and what is left of each in ``branches`` (at least one token)."""

    common: list[int]
    branches: list[list[int]]

    @classmethod
    def of(cls, questions: Sequence[Sequence[int]], own: Sequence[int] | None = None) -> "Branched":
        """The row of ``questions``, each the tokens that it would be asked with alone, so many of whose last are its
        ``own`` though they be the same in all (None: one).
        """
        first, kept = questions[0], own or [1] * len(questions)
        most = min(len(question) - count for question, count in zip(questions, kept, strict=True))
        common = next((i for i in range(most) if any(other[i] != first[i] for other in questions)), most)
        return cls(list(first[:common]), [list(question[common:]) for question in questions])

    def __len__(self) -> int:
        return len(self.common) + sum(map(len, self.branches))


@dataclass(frozen=True)
class Rows:
    """B rows of length L as a language model takes them.

    Attributes:
        ids: Tokens, padded on the right (B, L).
        positions: A token's place in its question (B, L).
        branch: Which question a token belongs to, from 1; 0 for what is common, -1 for padding (B, L).
        ends: Where each question's last token stands (B, questions).
    """

    ids: Tensor
    positions: Tensor
    branch: Tensor
    ends: Tensor

    @classmethod
    def of(cls, rows: Sequence[Branched], pad: int) -> "Rows":
        """``rows`` with as many questions each, padded with the token ``pad``."""
        length = max(map(len, rows))
        ids, positions, branch = (torch.full((len(rows), length), value) for value in (pad, 0, -1))
        ends: list[list[int]] = []
        for row, held in enumerate(rows):
            parts, place = [held.common, *held.branches], 0
            ends.append([])
            for number, part in enumerate(parts):
                to = place + len(part)
                ids[row, place:to] = torch.tensor(part, dtype=torch.long)
                begin = len(held.common) if number else 0
                positions[row, place:to] = torch.arange(begin, begin + len(part))
                branch[row, place:to], place = number, to
                ends[row] += [place - 1] if number else []
        return cls(ids, positions, branch, torch.tensor(ends))

    def to(self, device: torch.device) -> "Rows":
        """The same on ``device``."""
        return Rows(*(part.to(device) for part in (self.ids, self.positions, self.branch, self.ends)))

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What each token sees (B, 1, L, L): 0 where it does, else the lowest number of ``dtype``."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        seen, sees = self.branch[:, None, :], self.branch[:, :, None]
        visible = (place[None, None, :] <= place[None, :, None]) & ((seen == 0) | (seen == sees))
        # Padding sees itself and is seen by nobody; a softmax over nothing would be no number.
        lowest = torch.finfo(dtype).min
        return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, lowest)[:, None]

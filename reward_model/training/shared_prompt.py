"""Each prompt once in a forward, however many completions follow it.

The G completions of a group stand side by side after their prompt. Each sees the prompt and itself and has the position
that it would have alone, so nothing but the order of additions differs from G separate rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reward_model.encoding import VideoInputs


@dataclass(frozen=True)
class Packed:
    """Model ``inputs`` of B groups, the ``videos`` of each, and where the log-probability of each completion's tokens
    is found: ``group`` (N, 1) and ``place`` (N, K) index what the model gives, (B, length - 1).
    """

    inputs: dict[str, Tensor]
    videos: list[list[VideoInputs]]
    group: Tensor
    place: Tensor


def pack(
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    videos: Sequence[list[VideoInputs]],
    positions_of: Callable[[list[int], list[VideoInputs]], Tensor],
    width: int,
) -> Packed:
    """N prompts, completions of at most ``width`` = K tokens and videos, packed; rows of one prompt and the same videos
    make a group. ``positions_of`` gives the positions (axes, tokens) of a prompt, 3 axes for Qwen2.5-VL; those of all
    are ``position_ids`` (axes, B, length).

    The last token of a prompt is repeated before each completion, as it is what foretells the first token.
    """
    groups: dict[tuple, list[int]] = {}
    for row, (prompt, shown) in enumerate(zip(prompts, videos, strict=True)):
        # Videos are decoded once each, so the same video is the same object.
        groups.setdefault((tuple(prompt), *map(id, shown)), []).append(row)
    lengths = [len(prompts[rows[0]]) - 1 + sum(1 + len(completions[row]) for row in rows) for rows in groups.values()]
    count, length = len(groups), max(lengths)
    ids, labels = torch.zeros(count, length, dtype=torch.long), torch.full((count, length), -100)
    axes = [positions_of(prompts[rows[0]], videos[rows[0]]) for rows in groups.values()]
    positions = torch.zeros(len(axes[0]), count, length, dtype=torch.long)
    # Padding sees itself: a row of attention with nothing to see would be NaN.
    sees = torch.eye(length, dtype=torch.bool).repeat(count, 1, 1)
    group, place = torch.zeros(len(prompts), 1, dtype=torch.long), torch.zeros(len(prompts), width, dtype=torch.long)
    for index, rows in enumerate(groups.values()):
        prompt, at = prompts[rows[0]], axes[index]
        start = len(prompt) - 1
        common = slice(0, start)
        ids[index, common], positions[:, index, common] = torch.tensor(prompt[:-1]), at[:, :-1]
        sees[index, common, common] = _causal(start)
        for row in rows:
            own = [prompt[-1], *completions[row]]
            part = slice(start, start + len(own))
            ids[index, part] = torch.tensor(own)
            # The prompt's last token is given, not foretold.
            labels[index, start + 1 : part.stop] = ids[index, start + 1 : part.stop]
            # As if it stood alone after the prompt, whatever stands before it here.
            positions[:, index, part] = at[:, -1:] + torch.arange(len(own))
            sees[index, part, common] = True
            sees[index, part, part] = _causal(len(own))
            # A token's log-probability stands at the place before it.
            group[row], place[row, : len(own) - 1] = index, torch.arange(start, part.stop - 1)
            start = part.stop
    inputs = {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": sees[:, None]}
    return Packed(inputs, [videos[rows[0]] for rows in groups.values()], group, place)


def _causal(length: int) -> Tensor:
    """Which tokens each of ``length`` sees: itself and those before it, bool (length, length)."""
    return torch.ones(length, length, dtype=torch.bool).tril()

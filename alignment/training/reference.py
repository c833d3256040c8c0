"""Reference errors: two numbers per draw, computed once, cached on disk.

Draws are seeded, so what the reference makes of them can be known before the first step; training then never runs, or
holds, a second model, and a resumed run reads what the first one wrote.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import Tensor

from alignment.training.schedule import Draw
from videoduet.progress import track
from videoduet.store import write_tensors

DRAWS_PER_SHARD = 1024


def cached_reference_errors(
    folder: Path, key: str, steps: Sequence[Sequence[Draw]], compute: Callable[[Sequence[Draw]], Tensor]
) -> list[Tensor]:
    """For each step, the errors (draws of the step, 2) float32 of the reference on the chosen and the rejected.

    ``compute`` gives the errors on some of one step's draws, on every process; it is called once for each draw, however
    often that is visited, and only for shards that ``folder`` lacks. ``key`` names everything that the errors depend
    on.
    """
    rows: dict[Draw, int] = {}
    first_visits = []
    for step in steps:
        new = [draw for draw in step if draw not in rows]
        rows |= {draw: len(rows) + row for row, draw in enumerate(new)}
        if new:
            first_visits.append(new)
    errors = torch.cat(_cached(folder, key, first_visits, compute))
    return [errors[[rows[draw] for draw in step]] for step in steps]


def _cached(
    folder: Path, key: str, steps: Sequence[Sequence[Draw]], compute: Callable[[Sequence[Draw]], Tensor]
) -> list[Tensor]:
    state = PartialState()
    per_shard = max(1, DRAWS_PER_SHARD // len(steps[0]))
    shards = {folder / f"{key}_{start:08d}.safetensors": range(start, min(start + per_shard, len(steps)))
              for start in range(0, len(steps), per_shard)}  # fmt: skip
    missing = [path for path in shards if not path.exists()]
    # Every process must have looked before the first one writes.
    state.wait_for_everyone()
    for path in track(missing, "reference errors") if missing and state.is_main_process else missing:
        errors = torch.cat([compute(steps[index]) for index in shards[path]])
        if state.is_main_process:
            write_tensors(path, {"errors": errors})
    state.wait_for_everyone()
    return [load_file(path)["errors"] for path in shards]

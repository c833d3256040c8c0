"""The curve on pairs that are kept from training."""

import json
from pathlib import Path
from typing import Any

from alignment.training.metrics import bucket_means, means
from alignment.training.step_loss import Data, StepLoss
from alignment.training.tracking import Tracker
from videoduet.store import finite, write_bytes
from videoduet.tables import read_lines

HELD_OUT_DRAWS = 256
"""About so many draws of held-out pairs are measured at a time, always the same: enough to read a curve by."""


class HeldOutCurve:
    """Measurements on held-out pairs, one line each in ``file``; none where ``data`` has no steps."""

    def __init__(self, loss: StepLoss, data: Data, file: Path):
        self.loss, self.data, self.file = loss, data, file

    def measure(self, step: int) -> dict[str, Any]:
        """The metrics after ``step`` optimizer steps, kept in the file too; nothing where there are no pairs."""
        if not self.data.steps:
            return {}
        sums = sum(self.loss.measure(self.data, index) for index in range(len(self.data.steps)))
        buckets = bucket_means(sums, self.loss.generator.num_train_timesteps)
        row = {"step": step, **means(sums), "timestep_buckets": buckets}
        for values in (row, *buckets):
            del values["prediction_gradient"]  # nothing is differentiated here
        row = finite(row)
        if self.loss.policy_forward.state.is_main_process:
            # Those of steps that a resumed training goes through again are replaced.
            kept = [line for line in self.rows() if line["step"] < step]
            write_bytes(self.file, "".join(json.dumps(line) + "\n" for line in [*kept, row]).encode())
        return row

    def rows(self) -> list[dict[str, Any]]:
        """The measurements so far, oldest first."""
        return [json.loads(line) for line in read_lines(self.file)] if self.file.exists() else []

    def track(self, tracker: Tracker, step: int) -> None:
        """Measure, and send the figures to ``tracker``."""
        row = self.measure(step)
        values = {f"held_out/{name}": value for name, value in row.items()}
        for bucket in row.get("timestep_buckets", ()):
            first, last = bucket["timesteps"]
            values |= {f"held_out_{first}-{last}/{name}": value for name, value in bucket.items()}
        tracker.log(values, step)

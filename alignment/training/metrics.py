"""What a training says of itself: sums over draws, by quarter of the timesteps."""

from typing import Any

import torch
from torch import Tensor

from alignment.training.loss import DPOOutput

BUCKETS = 4
"""Quarters of the generator's training timesteps."""

SATURATED_LOGIT = 3.0
"""Beyond it the sigmoid is within a twentieth of 0 or 1: the pair is settled, rightly or wrongly."""

METRICS = (
    "loss",
    "implicit_accuracy",
    "margin",
    "chosen_error_delta",
    "rejected_error_delta",
    "logit",
    "saturated",
    "beta",
    "prediction_gradient",
)
"""Means over draws. ``loss`` is DPO's, weighted, without anchor and SFT terms; ``margin`` is Δeˡ - Δeʷ; ``logit`` is
its size |β/2 · margin|, without a sign; ``saturated`` the share of draws beyond :data:`SATURATED_LOGIT`; ``beta`` the
one in force; ``prediction_gradient`` the norm of the step's loss's gradient with respect to the pair's predictions,
times the draws in the step: which timesteps the weights hear most."""


def empty_sums() -> Tensor:
    """No draws yet: zeros (BUCKETS, 1 + METRICS) float64."""
    return torch.zeros(BUCKETS, 1 + len(METRICS), dtype=torch.float64)


def draw_sums(
    output: DPOOutput, timesteps: Tensor, beta: Tensor, num_train_timesteps: int, gradients: Tensor | None = None
) -> Tensor:
    """Sums over n draws, by timestep bucket (BUCKETS, 1 + METRICS) float32: the count, then the metrics.

    ``timesteps`` and ``beta`` (n,); ``num_train_timesteps`` is how many the generator has; ``gradients`` (n,) are
    norms, 0 where there are none.
    """
    logits = output.logits
    hits = (logits > 0).float() + 0.5 * (logits == 0).float()
    margin = output.rejected_error_delta - output.chosen_error_delta
    columns = (
        torch.ones_like(margin),
        output.losses,
        hits,
        margin,
        output.chosen_error_delta,
        output.rejected_error_delta,
        logits.abs(),
        (logits.abs() > SATURATED_LOGIT).float(),
        beta,
        torch.zeros_like(margin) if gradients is None else gradients,
    )
    rows = torch.stack([column.float() for column in columns], dim=1)
    buckets = (timesteps * BUCKETS // num_train_timesteps).clamp(0, BUCKETS - 1)
    return rows.new_zeros(BUCKETS, rows.shape[1]).index_add_(0, buckets, rows)


def means(sums: Tensor) -> dict[str, float]:
    """The metrics' means over all buckets; ``sums`` (BUCKETS, 1 + METRICS) as :func:`draw_sums` gives them."""
    return dict(zip(METRICS, (sums[:, 1:].sum(0) / sums[:, 0].sum()).tolist(), strict=True))


def bucket_means(sums: Tensor, num_train_timesteps: int) -> list[dict[str, Any]]:
    """The metrics' means by quarter of the timesteps; None where a quarter saw no draw."""
    width, rows = num_train_timesteps // BUCKETS, []
    for bucket, (count, *totals) in enumerate(sums.tolist()):
        values = {name: total / count if count else None for name, total in zip(METRICS, totals, strict=True)}
        rows.append({"timesteps": [bucket * width, (bucket + 1) * width - 1], "draws": int(count), **values})
    return rows

"""Why a loss is flat, or diverges, said in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignment.training.config import AlignConfig

SATURATED_SHARE = 0.5
SMALL_LOGIT = 0.05
"""Below it a sigmoid's slope is ¼ to three digits: the pair pulls as if the policy still were the reference."""

Bucket = Mapping[str, Any]


def diagnose(summary: Mapping[str, Any], config: AlignConfig) -> list[str]:
    """What is wrong with a finished training, and what to change; nothing where nothing is.

    Reads the last third of the steps, by quarter of the timesteps (``late_timestep_buckets``), and the last measurement
    on held-out pairs.
    """
    notes: list[str] = []
    if summary["skipped_steps"]:
        notes.append(
            f"{summary['skipped_steps']} steps had a non-finite loss or gradient and were skipped; lower learning_rate "
            "or beta, or give mixed_precision 'no'."
        )
    buckets = [bucket for bucket in summary["late_timestep_buckets"] if bucket["draws"]]
    if not buckets:
        return notes
    if all(bucket["logit"] < SMALL_LOGIT for bucket in buckets):
        flat = (
            f"The loss is flat: the logits' mean size is {_mean(buckets, 'logit'):.2g} at the end, so no pair is any "
            "nearer to being settled than at the start. Raise learning_rate, the number of steps, or beta."
        )
        return [*notes, flat]
    return [
        *notes, *_errors_rise(buckets, config), *_vanished_pull(buckets, config), *_saturation(buckets),
        *_held_out(summary, buckets),
    ]  # fmt: skip


def _mean(buckets: Sequence[Bucket], name: str) -> float:
    return sum(bucket["draws"] * bucket[name] for bucket in buckets) / sum(bucket["draws"] for bucket in buckets)


def _errors_rise(buckets: Sequence[Bucket], config: AlignConfig) -> list[str]:
    chosen, rejected = (_mean(buckets, f"{side}_error_delta") for side in ("chosen", "rejected"))
    # What moves no logit is nothing.
    if 0.5 * config.beta * min(chosen, rejected) < SMALL_LOGIT:
        return []
    worst = max(buckets, key=lambda bucket: bucket["chosen_error_delta"])
    return [
        f"Both errors rose above the reference's, on the chosen videos by {chosen:.2g} and on the rejected by "
        f"{rejected:.2g} (on the chosen most at timesteps {_range(worst)}): the generator is getting worse at both, "
        f"which an implicit accuracy of {_mean(buckets, 'implicit_accuracy'):.2f} does not show. Lower learning_rate "
        "or the number of steps, raise beta, or set sdpo_mu: 0.9 or sft_weight."
    ]


def _vanished_pull(buckets: Sequence[Bucket], config: AlignConfig) -> list[str]:
    weak = [bucket for bucket in buckets if bucket["logit"] < SMALL_LOGIT and bucket["beta"] < 0.1 * config.beta]
    if not weak:
        return []
    made = " (layout and motion are made where noise is strong)" if weak[-1]["timesteps"][0] >= 500 else ""
    return [
        f"At timesteps {', '.join(map(_range, weak))} the pull to the reference has vanished: beta is weighted down to "
        f"{_mean(weak, 'beta'):.2g} there, and nothing holds the policy{made}. Use beta_schedule and timestep_weights "
        "'constant', or a larger beta."
    ]


def _saturation(buckets: Sequence[Bucket]) -> list[str]:
    share = _mean(buckets, "saturated")
    if share < SATURATED_SHARE:
        return []
    return [
        f"Beta saturates: {share:.0%} of the draws have a logit beyond 3, where the sigmoid is flat, so their pairs "
        "teach nothing more and the rest are noise. Lower beta, or the number of steps."
    ]


def _held_out(summary: Mapping[str, Any], buckets: Sequence[Bucket]) -> list[str]:
    measured = summary["held_out"]
    if measured is None or measured["implicit_accuracy"] is None:
        return []
    trained = _mean(buckets, "implicit_accuracy")
    if trained - measured["implicit_accuracy"] < 0.2:
        return []
    return [
        f"Implicit accuracy is {trained:.2f} on the pairs trained on and {measured['implicit_accuracy']:.2f} on "
        "held-out ones: the training learns its pairs by heart. Use more pairs, fewer epochs, or label_smoothing."
    ]


def _range(bucket: Bucket) -> str:
    first, last = bucket["timesteps"]
    return f"{first}–{last}"

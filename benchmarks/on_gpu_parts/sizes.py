"""How large the work is that is measured, and the parts in their order."""

from dataclasses import dataclass
from typing import Literal

Scale = Literal["toy", "real"]


@dataclass(frozen=True)
class Size:
    """What is measured at one scale.

    Attributes:
        product: Rows and columns of the matrices whose product is the ceiling of arithmetic.
        copied: Bytes of the copy that is the ceiling of bandwidth.
        denoised: Videos at once in a forward of the denoiser.
        drawn: Videos that are sampled, from text to mp4.
        batch: Videos drawn at once.
        pairs: Preference pairs that are trained on.
        epochs: Visits of each pair.
        pairs_a_step: Pairs in an optimizer step.
        lora_rank: Rank of the generator's LoRA.
        clips: Videos of one prompt; all pairs of them are judged.
        side: Height and width of a judged video in pixels.
        tokens: New tokens of an answer.
        showings: Showings at once, two for each pair; what most needs knowing stands first.
        prompts: Prompts of a GRPO step.
        rollouts: Rollouts of each.
        rollout_side: Height and width of their videos.
        rollout_tokens: Tokens of a rollout.
        estimates: What an estimate of seconds on one 80 GB card is multiplied with.
    """

    product: int
    copied: int
    denoised: tuple[int, ...]
    drawn: int
    batch: int
    pairs: int
    epochs: int
    pairs_a_step: int
    lora_rank: int
    clips: int
    side: int
    tokens: int
    showings: tuple[int, ...]
    prompts: int
    rollouts: int
    rollout_side: int
    rollout_tokens: int
    estimates: float


SIZES: dict[Scale, Size] = {
    "toy": Size(
        product=512, copied=2**24, denoised=(1, 2, 4, 8), drawn=8, batch=4, pairs=2, epochs=2, pairs_a_step=1,
        lora_rank=8, clips=3, side=32, tokens=8, showings=(6,), prompts=1, rollouts=4, rollout_side=32,
        rollout_tokens=8, estimates=0.05,
    ),
    "real": Size(
        product=8192, copied=2**30, denoised=(4, 1, 2, 8), drawn=24, batch=4, pairs=2, epochs=3, pairs_a_step=1,
        lora_rank=64, clips=10, side=448, tokens=64, showings=(90, 32), prompts=2, rollouts=8, rollout_side=252,
        rollout_tokens=64, estimates=1.0,
    ),
}  # fmt: skip
"""*toy*: the models that ship. *real*: T2V-Turbo's shape (1.4B UNet, 16x320x512, bfloat16) and Qwen2.5-VL-7B's, both
with random weights.
"""

PARTS = {
    "sampling": "benchmarks.on_gpu_parts.drawing.sampling",
    "denoiser": "benchmarks.on_gpu_parts.drawing.denoiser",
    "autoencoder": "benchmarks.on_gpu_parts.drawing.autoencoder",
    "dpo": "benchmarks.on_gpu_parts.preference_steps.dpo",
    "text": "benchmarks.on_gpu_parts.drawing.text",
    "writing": "benchmarks.on_gpu_parts.drawing.writing",
    "kernels": "benchmarks.on_gpu_parts.kernels.kernels",
    "compiled": "benchmarks.on_gpu_parts.drawing.compiled",
    "judging": "benchmarks.on_gpu_parts.answers.judging",
    "grpo": "benchmarks.on_gpu_parts.rollouts.grpo",
}
"""Each part's function, in the order in which they are measured: the generator's first, so that each model is built
once.
"""

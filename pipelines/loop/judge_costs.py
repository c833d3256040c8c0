"""Peak memory of a judge: where it answers, and where it learns by rewards; by the sizes in ``configs/rates.yaml``."""

import math

from pipelines.loop.rates import JudgeSize, table
from reward_model.judging.config import LOGITS_KEPT, READ_AT_ONCE
from reward_model.training.config import GRPOTraining
from videoduet.quantized import BYTES as HELD

KEPT, WHOLE = (18.0, 2.1), {False: (24.5, 2.35), True: (30.0, 5.0)}
"""Numbers of half precision that a layer keeps of a token, in its width and in that of its feed-forward, and what it
holds at most while its gradients are worked out, plain and widened by autocast: the plain ones measured on the toy
(tests/pipelines/test_judge_memory.py), what autocast adds taken from a transformer of the same products.
"""
TILE = 4096, 32768
"""Tokens and words whose logits are worked out at once (TRL's chunked log-probabilities)."""
TRAINED = 16.0
"""Bytes of a trained number: itself, its gradient and Adam's two moments, in float32."""


def judging_memory(
    size: JudgeSize, batch: int, new_tokens: int, *, weight_bytes: int, tokens: int | None = None,
    own: float | None = None,
) -> float:  # fmt: skip
    """Peak bytes of answering ``batch`` showings of ``tokens``, of which the share ``own`` is each one's own, what
    showings of one first video have in common counted once (None: as the table has it).

    Weights, keys and values, logits, and what one chunk of reading needs: at 7B as measured, on the toy as well.
    """
    showing = table()["showing"]
    own_tokens = (showing["own"] if own is None else own) * (showing["tokens"] if tokens is None else tokens)
    cached = batch * (own_tokens + new_tokens) * size.cached * weight_bytes / 2
    reading = min(READ_AT_ONCE, batch * own_tokens) * size.read * weight_bytes / 2
    return 1e9 * size.weights * weight_bytes + cached + reading + batch * LOGITS_KEPT * 4.0 * size.vocabulary


def lora_numbers(size: JudgeSize, rank: int) -> float:
    """Numbers of a LoRA of that rank on all products of the language model."""
    keys = size.heads * size.head
    return rank * size.layers * (9.0 * size.width + 2.0 * keys + 3.0 * size.ffn)


def frozen(size: JudgeSize, training: GRPOTraining, weight_bytes: float) -> float:
    """Bytes of the weights under the LoRA; in fewer bits are the products of the language model's layers alone."""
    keys = size.heads * size.head
    products = size.layers * (2.0 * size.width * (size.width + keys) + 3.0 * size.width * size.ffn)
    fewer = 0.0 if training.load_in is None else products * (weight_bytes - HELD[training.load_in])
    return 1e9 * size.weights * weight_bytes - fewer


def step_activations(
    size: JudgeSize, tokens: float, scored: float, *, recomputed: bool = True, widened: bool = True
) -> float:
    """Bytes in half precision that a pass over ``tokens`` tokens holds, of which ``scored`` have log-probabilities."""
    number = 2.0 * tokens
    head = 2.0 * min(scored, TILE[0]) * TILE[1]
    if not recomputed:
        return number * size.layers * (KEPT[0] * size.width + KEPT[1] * size.ffn) + head
    of_width, of_ffn = WHOLE[widened]
    return number * size.width * size.layers + max(number * (of_width * size.width + of_ffn * size.ffn), head)


def learning_memory(size: JudgeSize, training: GRPOTraining, *, weight_bytes: float = 2.0) -> float:
    """Peak bytes of GRPO with a LoRA on a GPU, where activations are recomputed and a prompt is read once for its
    group: of drawing a step's rollouts, with their keys and values, or of learning from ``micro_batch`` of them.

    Prompts are as long as the table's showings, answers as long as they may be.
    """
    tokens, group = table()["showing"]["tokens"], training.num_generations
    rollouts = training.pairs_per_step * group
    rows = min(training.micro_batch, rollouts)
    held = frozen(size, training, weight_bytes)
    drawing = judging_memory(
        size, rollouts, size.new_tokens, weight_bytes=2, tokens=tokens, own=1 / group
    )  # fmt: skip
    scored = rows * (size.new_tokens + 1)
    numbers = lora_numbers(size, training.lora_rank)
    step = step_activations(size, math.ceil(rows / group) * tokens + scored, scored)
    return held + numbers * TRAINED + max(drawing - 2e9 * size.weights, step)

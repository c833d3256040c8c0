"""Peak memory, hours and bytes on disk of a run, phase by phase, by the sizes and rates in ``configs/rates.yaml``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from alignment.training.config import AlignConfig
from generators.config import FULL
from pipelines.loop.config import RunConfig
from pipelines.loop.judge_costs import judging_memory as judging_memory
from pipelines.loop.judge_costs import learning_memory
from pipelines.loop.rates import NAMES, Card, GeneratorSize, JudgeSize, Recomputed, cards, table
from videoduet.quantized import BYTES as HELD

PIXEL_BYTES, WRITERS = 0.6, 4
"""Bytes of an mp4 file for a pixel (1.5 MB for 16x320x512), and cores that write beside a GPU."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
AT_ONCE = 64
"""Showings at once, where that is 'auto' and the card has room for them."""
SPARE = 0.92
"""The share of a card's memory that a plan fills; libraries and holes take the rest."""


@dataclass(frozen=True)
class Setting:
    """A run on a card: GPU hours by phase, the peak of memory in bytes by phase, and what was changed to fit."""

    card: Card
    hours: dict[str, float]
    memory: dict[str, float]
    changes: dict[str, Any]

    @property
    def fits(self) -> bool:
        """Whether every phase fits into the card's memory."""
        return max(self.memory.values()) <= SPARE * self.card.memory

    @property
    def total(self) -> float:
        """GPU hours of the whole run."""
        return sum(self.hours.values())

    @property
    def dollars(self) -> float:
        """What they cost."""
        return self.total * self.card.dollars


def training_memory(size: GeneratorSize, config: AlignConfig, tokens: int, *, weight_bytes: int) -> float:
    """Peak bytes of a DPO step: weights, LoRA with gradient and Adam's two moments in float32, and the activations of
    both sides of ``micro_batch`` pairs; 'auto' is reckoned as recomputation (:func:`on_card` says what it takes).
    """
    adam = 0.5 if config.optimizer == "adamw_8bit" else 2.0
    lora = 4.0 * size.lora(config.lora_rank) * (2.0 + adam + (config.ema_decay is not None))
    way, bf16 = config.gradient_checkpointing, config.mixed_precision == "bf16"
    widened = config.load_in is not None or (weight_bytes == 4 and bf16)
    kept = size.kept(tokens, True if way == "auto" else way, 2 * config.micro_batch, widened=widened)
    # Float32 keeps twice as many bytes.
    wide = 2.0 if weight_bytes == 4 and not bf16 else 1.0
    return frozen(size, config, weight_bytes) + lora + kept * wide


def frozen(size: GeneratorSize, config: AlignConfig, weight_bytes: int) -> float:
    """Bytes of the denoiser's weights under a LoRA. What ``load_in`` makes smaller is a transformer's: most of a UNet's
    weights are in convolutions, which stay as they are.
    """
    return 1e9 * size.weights[0] * (weight_bytes if config.load_in is None or size.unet else HELD[config.load_in])


def disk(config: RunConfig, counted: Mapping[str, int], size: GeneratorSize) -> dict[str, float]:
    """Bytes on disk of a run: of its videos, of all final latents, and of the latents with ``keep_latents: pairs`` when
    they are most: those of a round that is not ranked yet, or of the videos of score, beside the pairs'.
    """
    frames, height, width = shown(config, size)
    drawn, scored = counted["videos of rounds"], counted["videos of score"] + counted["videos of VBench"]
    each = size.latent_bytes(frames, height, width)
    pairs = 2 * math.isqrt(config.pairs.pairs_per_prompt) * drawn / config.generator.videos_per_prompt
    most = max(drawn / config.rounds + pairs * (config.rounds - 1) / config.rounds, scored + pairs)
    return {
        "videos": (drawn + scored) * PIXEL_BYTES * frames * height * width,
        "all": (drawn + scored) * each,
        "pairs": min(most, drawn + scored) * each,
    }


def shown(config: RunConfig, size: GeneratorSize) -> tuple[int, int, int]:
    """Frames, height and width of a run's videos."""
    given = [config.generator.sampler.get(name) for name in ("num_frames", "height", "width")]
    frames, height, width = (a or b for a, b in zip(given, size.frames, strict=True))
    return frames, height, width


def on_card(config: RunConfig, size: GeneratorSize, judge: JudgeSize | None, card: Card) -> RunConfig:
    """``config`` with what 'auto' would take on ``card``: the fastest way to train, and as many showings, that fit."""
    align, batch, room = config.align, config.judge.batch_size, SPARE * card.memory
    if align.gradient_checkpointing == "auto":
        way = _fastest(config, size, align.micro_batch, room)
        align = replace(align, gradient_checkpointing="twice" if way is None else way)
    if batch == "auto":
        batch = AT_ONCE
        while judge is not None and batch > 2 and _judging(config, judge, batch) > room:
            batch //= 2
    return replace(config, align=align, judge=replace(config.judge, batch_size=batch))


def setting(
    config: RunConfig, counted: Mapping[str, int], size: GeneratorSize, judge: JudgeSize | None, card: Card
) -> Setting:
    """The run on ``card``, as the config has it."""
    taken = on_card(config, size, judge, card)
    return Setting(card, _hours(taken, counted, size, judge, card), memory(taken, size, judge, card.memory), {})


def fitted(
    config: RunConfig, counted: Mapping[str, int], size: GeneratorSize, judge: JudgeSize | None, card: Card
) -> Setting | None:
    """The quickest setting of recomputation and batches that fits into ``card``; None where none does."""
    room, changes = SPARE * card.memory, dict[str, Any]()
    way = _fastest(config, size, 1, room)
    if way is None:
        return None
    if config.align.gradient_checkpointing not in ("auto", way):
        changes["align.gradient_checkpointing"] = way
    if config.align.micro_batch != 1:
        changes["align.micro_batch"] = 1
    align = replace(config.align, gradient_checkpointing=way, micro_batch=1)
    batch = _judged(on_card(config, size, judge, card))
    while batch > 2 and judge is not None and _judging(config, judge, batch) > room:
        batch //= 2
    if config.judge.batch_size not in ("auto", batch):
        changes["judge.batch_size"] = batch
    training = config.refresh.training
    while (
        judge is not None and refreshes(config) and learning_memory(judge, training) > room and training.micro_batch > 1
    ):
        training = replace(training, micro_batch=training.micro_batch // 2)
    if training.micro_batch != config.refresh.training.micro_batch:
        changes["refresh.training.micro_batch"] = training.micro_batch
    drawn = config.generator.batch_size
    while drawn > 1 and _sampling(config, size, drawn, card.memory) > room:
        drawn //= 2
    if drawn != config.generator.batch_size:
        changes["generator.batch_size"] = drawn
    changed = replace(
        config, align=align, judge=replace(config.judge, batch_size=batch),
        generator=replace(config.generator, batch_size=drawn), refresh=replace(config.refresh, training=training),
    )  # fmt: skip
    found = setting(changed, counted, size, judge, card)
    return Setting(card, found.hours, found.memory, changes) if found.fits else None


def _fastest(config: RunConfig, size: GeneratorSize, micro_batch: int, room: float) -> Recomputed | None:
    tokens = size.tokens(*shown(config, size))
    for way in NAMES:
        align = replace(config.align, gradient_checkpointing=way, micro_batch=micro_batch)
        if training_memory(size, align, tokens, weight_bytes=_width(config)) <= room:
            return way
    return None


def _judged(config: RunConfig) -> int:
    """Showings at once, once 'auto' is known."""
    return AT_ONCE if config.judge.batch_size == "auto" else config.judge.batch_size


def cheapest(
    config: RunConfig, counted: Mapping[str, int], size: GeneratorSize, judge: JudgeSize | None
) -> Setting | None:
    """The setting of least rent over all known cards (None: the run fits on none of them)."""
    found = [fitted(config, counted, size, judge, card) for card in cards()]
    return min((each for each in found if each is not None), key=lambda each: each.dollars, default=None)


def _width(config: RunConfig) -> int:
    return BYTES[config.generator.dtype]


def _sampling(config: RunConfig, size: GeneratorSize, batch: int, whole: float) -> float:
    """Bytes of drawing ``batch`` videos on a device of ``whole`` bytes: text encoders that take much of it wait beside
    it while the denoiser draws (:mod:`generators.idle`).
    """
    tokens, width = size.tokens(*shown(config, size)), _width(config)
    models, drawing = 1e9 * sum(size.weights) * width, batch * size.passes * size.drawn(tokens) * width / 2
    waiting = 1e9 * size.weights[1] * width if models > FULL * whole else 0.0
    return max(models, models - waiting + drawing)


def _aligning(config: RunConfig, size: GeneratorSize) -> float:
    """Bytes of a training: of its steps, or of encoding its prompts, after which encoders and autoencoder are gone."""
    width, tokens = _width(config), size.tokens(*shown(config, size))
    encoding = frozen(size, config.align, width) + 1e9 * sum(size.weights[1:]) * width
    return max(training_memory(size, config.align, tokens, weight_bytes=width), encoding)


def _judging(config: RunConfig, judge: JudgeSize, batch: int) -> float:
    return judging_memory(judge, batch, judge.new_tokens, weight_bytes=BYTES[config.judge.dtype])


def memory(config: RunConfig, size: GeneratorSize | None, judge: JudgeSize | None, whole: float) -> dict[str, float]:
    """Peak bytes of each phase on a device of ``whole`` bytes, as far as the models' sizes are known."""
    found: dict[str, float] = {}
    if size is not None:
        found["sample"] = _sampling(config, size, config.generator.batch_size, whole)
        found["align"] = _aligning(config, size)
    if judge is not None:
        found["rank"] = _judging(config, judge, _judged(config))
        if refreshes(config):
            found["refresh"] = learning_memory(judge, config.refresh.training)
    return found


def refreshes(config: RunConfig) -> bool:
    """Whether the judge is trained at all."""
    return config.rounds > 1 and config.refresh.why_off(config.judge) is None


def _hours(
    config: RunConfig, counted: Mapping[str, int], size: GeneratorSize, judge: JudgeSize | None, card: Card
) -> dict[str, float]:
    """GPU hours of each phase over all rounds. What is bound by products and what by memory grows with the slower of
    the two ratios to the H100, answers with that of bandwidth.
    """
    rates, h100 = table()["h100"], cards()[0]
    slower = max(h100.operations / card.operations, h100.bandwidth / card.bandwidth)
    if config.generator.dtype == "float32":
        slower *= 8.0
    shape = shown(config, size)
    tokens, pixels = size.tokens(*shape), math.prod(shape)
    steps = config.generator.sampler.get("steps", size.steps)
    drawing = rates["compiled" if size.unet and config.generator.speed != "eager" else "eager"]
    training = rates["compiled" if size.unet and config.align.speed != "eager" else "eager"]
    video = drawing["denoise"] * size.forward(tokens) / 1e12 * steps * size.passes
    video += drawing["decode"] * size.decode * pixels / 1e12
    # Files are written beside the next batch, by the cores that there are for a GPU.
    video = max(video * slower, rates["x264"] * pixels / 1e6 / WRITERS)
    way = config.align.gradient_checkpointing
    step = training["dpo"][NAMES[True if way == "auto" else way]]
    hours = {
        "sample": counted["videos of rounds"] * video,
        "measure": counted["videos of score"] * video,
        "score": counted["videos of VBench"] * video,
        "align": counted["denoiser forwards (alignment)"] * size.forward(tokens) / 1e12 * step * slower,
    }
    if judge is not None:
        wide = 8.0 if config.judge.dtype == "float32" else 1.0
        read = rates["read"] * judge.weights * table()["showing"]["tokens"] * slower * wide
        answer = rates["answer"] * judge.weights * judge.new_tokens / _judged(config)
        answer *= h100.bandwidth / card.bandwidth
        showing = (read + answer) * config.judge.samples
        hours["audit"] = counted["audit rollouts"] * showing
        hours["rank"] = counted["rank rollouts"] * showing
        hours["measure"] += (counted["measure rollouts"] + counted["choosing rollouts"]) * showing
        hours["score"] += counted["score rollouts"] * showing
        hours["refresh"] = (counted["refresh rollouts"] + counted["refreshed audit rollouts"]) * showing
        hours["refresh"] += counted["GRPO rollouts"] * (answer + rates["rollout"] * read)
    return {name: seconds / 3600 for name, seconds in hours.items()}

"""What a part alone will cost, before it starts: a training on stored preferences, an evaluation on VBench.

By the rates and the model of memory of a run's plan (:mod:`pipelines.loop.plan`).
"""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from alignment.preferences.stored import count_preferences
from alignment.training.config import PreferenceTrainingConfig
from evaluation.vbench.config import VBenchEvaluationConfig
from pipelines.loop.config import GeneratorConfig, RunConfig
from pipelines.loop.costs import Setting, setting, shown
from pipelines.loop.judge_config import JudgeConfig
from pipelines.loop.official_prompts import reckoned_videos
from pipelines.loop.plan import KINDS
from pipelines.loop.rates import GeneratorSize, cards, generator_size, unknown
from pipelines.loop.score_config import VBenchConfig
from videoduet.config import resolve

NOTHING = {
    "videos of rounds": 0, "videos of score": 0, "videos of VBench": 0, "denoiser forwards (alignment)": 0,
}  # fmt: skip
SIZES = (
    "The sizes of this generator are not known (configs/rates.yaml), so its hours are not; --rehearse measures them."
)
NOBODY = JudgeConfig(factory="nobody")


def planned_training(config: PreferenceTrainingConfig) -> dict[str, str]:
    """What a person reads of a training: pairs, steps, latents on disk, hours and memory on every known card.

    Raises InputError where the preferences cannot be read, or the generator is neither on this disk nor known.
    """
    size, align = _size(config.generator), config.align
    pairs = _pairs(config)
    draws = max(1, round(pairs * (1 - align.held_out))) * align.epochs * align.draws_per_pair
    if align.max_steps is not None:
        draws = min(draws, align.max_steps * align.batch_size)
    # Policy and reference on both sides of a pair, and a backward, as a run counts them.
    parts = {**NOTHING, "denoiser forwards (alignment)": 8 * draws}
    rows = {"pairs": f"{pairs:,}", "optimizer steps": f"{math.ceil(draws / align.batch_size):,}"}
    if size is None:
        return {**rows, "note": SIZES}
    whole = align.parameters == "all"
    generator = GeneratorConfig(path=config.generator, sampler=config.sampler, dtype=config.dtype)
    run = RunConfig(generator=generator, judge=NOBODY, align=replace(align, parameters="lora"))
    latents = 2 * pairs * size.latent_bytes(*shown(run, size)) / 1e9
    rows |= {"latents on disk, at most (GB)": f"{latents:.1f}", **_on_cards(run, parts, size, "align", unknown=whole)}
    note = "What memory a training of all weights takes is not reckoned; --rehearse measures it."
    return {**rows, "note": note} if whole else rows


def planned_evaluation(config: VBenchEvaluationConfig) -> dict[str, str]:
    """What a person reads of an evaluation: its videos, and hours and memory of drawing them on every known card.

    Raises InputError where the generator is neither on this disk nor known.
    """
    if config.generator is None:
        return {"videos to draw": "0", "note": "These videos are there; --rehearse tells what of them can be scored."}
    suite = VBenchConfig(
        suite="official", dimensions=config.dimensions, prompts_per_dimension=config.prompts_per_dimension,
        videos_per_prompt=config.videos_per_prompt, flickering_videos=config.flickering_videos,
    )  # fmt: skip
    # A run of one round draws them with two generators.
    videos = reckoned_videos(suite, 1) // 2
    rows, note = {"videos to draw, at most": f"{videos:,}"}, "How long the package scores them is not known."
    if (size := _size(config.generator)) is None:
        return {**rows, "note": SIZES}
    generator = GeneratorConfig(
        path=config.generator, sampler=config.sampler, dtype=config.dtype, batch_size=config.batch_size,
        speed=config.speed,
    )  # fmt: skip
    run = RunConfig(generator=generator, judge=NOBODY)
    return {**rows, **_on_cards(run, {**NOTHING, "videos of rounds": videos}, size, "sample"), "note": note}


def _pairs(config: PreferenceTrainingConfig) -> int:
    """How many pairs there are to learn from."""
    if (kept := Path(config.data) / "rank" / "pairs.parquet").is_file():
        return pq.read_metadata(kept).num_rows
    with tempfile.TemporaryDirectory() as folder:
        return count_preferences(config.data, Path(folder), config.columns)


def _size(path: str) -> GeneratorSize | None:
    """The known size of a generator; None of another one that is here."""
    found = generator_size(path)
    if found is None and not Path(resolve(path)).exists():
        raise unknown("generators", "--generator", path)
    return found


def _on_cards(
    run: RunConfig, parts: Mapping[str, int], size: GeneratorSize, phase: str, *, unknown: bool = False
) -> dict[str, str]:
    """Hours of one phase of ``run`` on every card, whether its memory fits, and which card is cheapest; where the
    memory is ``unknown``, its hours alone.
    """
    found = [setting(run, parts, size, None, card) for card in cards()]
    found = [replace(each, memory={phase: 0.0 if unknown else each.memory[phase]}) for each in found]
    rows = {f"GPU hours on {each.card.name}{KINDS[each.card.measured]}": _told(each, phase) for each in found}
    rows["models to download (GB)"] = f"{size.files / 1e9:.1f}"
    fitting = [each for each in found if each.fits]
    best = min(fitting, key=lambda each: each.dollars, default=None)
    none = "none of these cards holds it; draw fewer frames or pixels"
    rows["cheapest that fits"] = none if best is None else f"{best.card.name}, about ${best.dollars:,.0f}"
    return rows


def _told(found: Setting, phase: str) -> str:
    hours, memory = found.hours[phase], found.memory[phase]
    if not memory:
        return f"{hours:,.1f}"
    return f"{hours:,.1f}, {memory / 1e9:.1f} GB{'' if found.fits else ': does not fit as it is'}"

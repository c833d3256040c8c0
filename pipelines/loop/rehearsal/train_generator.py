"""Preference training by itself at its smallest: two of the user's own pairs, three steps, a kill between them."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from alignment.preferences.stored import first_preferences, write_preferences
from alignment.training.checkpoint import latest_checkpoint
from alignment.training.config import PreferenceTrainingConfig
from alignment.training.gathering import gather, of_a_round
from alignment.training.offline import train_on_preferences
from generators.loading import load_generator
from pipelines.loop.rehearsal import checks
from pipelines.loop.rehearsal.steps import (
    Rehearsal,
    described,
    killed_and_forgotten,
    scratch,
    seconds_of_a_step,
    size_of,
)
from videoduet.config import resolve
from videoduet.processes import device
from videoduet.records import PreferencePair, Prompt, Sample
from videoduet.store import write_records

Pair = TypeVar("Pair")
PAIRS, STEPS = 2, 3
"""Pairs that are trained on, and steps: one before the kill, one that warms up after it, and one that is timed."""
REFERENCE = 8 / 6
"""A step with the reference's errors on its draws, which are computed beforehand: two passes beside six."""
KNOBS = {
    "encoding": "give dtype bfloat16",
    "loading the generator": "give dtype bfloat16",
    "": "set align.gradient_checkpointing true, align.micro_batch 1, or lower align.lora_rank",
}


def rehearse(config: PreferenceTrainingConfig) -> Rehearsal:
    """What the training would meet. Nothing is written into its output, and what is written beside it is removed.

    Raises InputError in one of several processes.
    """
    checks.one_process()
    found = Rehearsal(knobs=KNOBS)
    found.problems += [
        *checks.unwritable(config.output, "--output"),
        *(checks.unwritable(config.cache, "--cache") if config.cache else ()),
        *checks.held(config.output, config, "trained"),
        *checks.without_gpu("generator", config.generator),
        *checks.half_without_gpu({"dtype": config.dtype}),
        *checks.tracker(config.align.tracker),
    ]
    with scratch(config.output) as folder:
        PreferenceRehearsal(config, folder, found).do()
    return found


class PreferenceRehearsal:
    """The steps of a rehearsal of ``config`` in ``folder``, which are noted in ``found``."""

    def __init__(self, config: PreferenceTrainingConfig, folder: Path, found: Rehearsal):
        self.config, self.folder, self.found = config, folder, found
        self.output = folder / "output"
        self.small = _small(config, folder, self.output)
        self.generator: Any = None
        self.pairs = 0
        self.seconds = 0.0

    def do(self) -> None:
        """All of them, until one fails that others stand on."""
        if self.found.attempt("reading the preferences", self.read) is None:
            return
        loading = self.found.attempt("loading the generator", self.load)
        encoding = None if loading is None else self.found.attempt("encoding", self.encode)
        self.generator = None
        if loading is None or encoding is None:
            return
        self.found.attempt("a kill in training", self.kill)
        if self.found.attempt("training", lambda: self.train(loading)) is not None:
            self.reckon(encoding)

    def read(self) -> str:
        """The preferences: how many there are, and a few of them put aside."""
        data = Path(self.config.data)
        if (data / "rank" / "pairs.parquet").exists():
            return self._read_round(data)
        found, problems, rows = first_preferences(
            self.config.data, self.folder / "videos", self.config.columns, count=100 * PAIRS
        )
        self.pairs = rows - len(problems)
        write_preferences(self.folder / "pairs.jsonl", _few(found, [pair.caption for pair in found]))
        told = f"{rows} pairs"
        return f"{told}, {len(problems)} of which cannot be used: {problems[0]}" if problems else told

    def _read_round(self, data: Path) -> str:
        preferences, _ = of_a_round(data.absolute())
        self.pairs, root = len(preferences.pairs), self.folder / "run"
        few = _few(preferences.pairs, [pair.prompt_id for pair in preferences.pairs])
        samples = [preferences.samples[id_] for pair in few for id_ in (pair.chosen_id, pair.rejected_id)]
        write_records(root / "round_00" / "rank" / "pairs.parquet", few, PreferencePair)
        write_records(root / "round_00" / "sample" / "samples_few_0.parquet", samples, Sample)
        write_records(root / "prompts.parquet", preferences.prompts.values(), Prompt)
        shutil.copy(data.absolute().parent / "config.yaml", root / "config.yaml")
        self.small = replace(self.small, data=str(root / "round_00"))
        return f"{self.pairs} pairs of a round, whose latents are there"

    def load(self) -> str:
        """The generator in its precision."""
        config = self.config
        self.generator = load_generator(
            resolve(config.generator), sampler=config.sampler, dtype=config.dtype, device=device()
        )
        return described(self.generator.pipeline.components)

    def encode(self) -> str:
        """The videos of the pairs, into the cache that the training finds."""
        _, _, problems = gather(self.small, self.generator, self.folder / "gathered")
        self.found.notes += problems
        latents = list((self.folder / "latents").glob("*.safetensors"))
        if not latents:
            return "nothing to encode"
        return f"{len(latents)} videos, {size_of(latents) / len(latents) / 1e6:.2f} MB of latents each"

    def kill(self) -> str:
        """A training in a process of its own, killed at its first checkpoint."""
        checkpoints = self.output / "align" / "checkpoints"
        return killed_and_forgotten(
            "pipelines.train_generator", self.small, self.output, lambda: latest_checkpoint(checkpoints) is not None,
            "at its first checkpoint",
        )  # fmt: skip

    def train(self, loading: float) -> str:
        """The same training, gone on with to its end."""
        started, ends = time.perf_counter(), list[float]()
        trained = train_on_preferences(self.small, on_step=lambda _: ends.append(time.perf_counter()))
        draws = self.small.align.batch_size
        self.seconds = seconds_of_a_step(started + loading, ends) / draws
        summary = trained.summary
        self.found.notes += [*trained.unread, *(f"After {STEPS} steps: {note}" for note in summary["notes"])]
        if summary["skipped_steps"]:
            self.found.problems.append(
                "training: the loss or its gradient was not finite; give dtype float32, or align.mixed_precision 'no'."
            )
        return f"{len(ends)} of {STEPS} steps of {draws} draws each, {self.seconds:.2f} s a draw"

    def reckon(self, encoding: float) -> None:
        """Hours and disk of the whole training."""
        align = self.config.align
        draws = max(1, round(self.pairs * (1 - align.held_out))) * align.epochs * align.draws_per_pair
        if align.max_steps is not None:
            draws = min(draws, align.max_steps * align.batch_size)
        latents = list((self.folder / "latents").glob("*.safetensors"))
        hours = {"training": draws * self.seconds * REFERENCE / 3600}
        if latents:
            hours = {"encoding": encoding / len(latents) * 2 * self.pairs / 3600, **hours}
            size = size_of(latents) / len(latents) * 2 * self.pairs
            self.found.need("latents", size, self.config.cache or self.config.output, "--cache")
        self.found.reckon(hours, "The whole training")
        result = self.output / ("generator" if align.parameters == "all" else "align/adapter")
        # Two checkpoints at a time, each of weights and two moments, and the result.
        self.found.need("checkpoints and the result", 7 * size_of(result.rglob("*")), self.config.output, "--output")


def _small(config: PreferenceTrainingConfig, folder: Path, output: Path) -> PreferenceTrainingConfig:
    """``config`` for a few pairs: micro-batches are whole, as memory is theirs."""
    align = config.align
    small = replace(
        align, epochs=STEPS, noise_epochs=None, draws_per_pair=align.micro_batch, batch_size=align.micro_batch,
        max_steps=STEPS, checkpoint_steps=1, held_out=0.5 if align.held_out else 0.0, tracker="none",
    )  # fmt: skip
    return replace(
        config, data=str(folder / "pairs.jsonl"), output=str(output), cache=str(folder / "latents"), align=small
    )


def _few(pairs: Sequence[Pair], prompts: Sequence[str]) -> list[Pair]:
    """The first pairs, of different prompts where there are."""
    first = {prompt: number for number, prompt in reversed(list(enumerate(prompts)))}
    order = [*sorted(first.values()), *(number for number in range(len(pairs)) if number not in first.values())]
    return [pairs[number] for number in order[:PAIRS]]

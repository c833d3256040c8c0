"""The training of a judge by itself at its smallest: as few of the user's own items as fill a step, three steps, a kill
between them.
"""

import time
from dataclasses import replace
from pathlib import Path

from pipelines.loop.rehearsal import checks
from pipelines.loop.rehearsal.steps import (
    Rehearsal,
    described,
    killed_and_forgotten,
    scratch,
    seconds_of_a_step,
    size_of,
)
from reward_model.datasets import PreferenceItem
from reward_model.training.config import JudgeTrainingConfig
from reward_model.training.mixture import Ingredient
from reward_model.training.policy import load_policy
from reward_model.training.stage import cost, gather, hard_pairs, train_stage
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.processes import device
from videoduet.store import read_json

STEPS, HARD = 3, 2
"""Steps: one before the kill, one that warms up after it, and one that is timed; pairs that are looked at for hard
ones.
"""
KNOBS = {
    "loading the judge": "give training.parameters lora, a smaller judge, or more GPUs (configs/accelerate)",
    "": "lower training.micro_batch, max_pixels or max_new_tokens",
}


def rehearse(config: JudgeTrainingConfig) -> Rehearsal:
    """What the training would meet. Nothing is written into its output, and what is written beside it is removed.

    Raises InputError in one of several processes.
    """
    checks.one_process()
    found = Rehearsal(knobs=KNOBS)
    found.problems += [*checks.unwritable(config.output, "--output"), *checks.held(config.output, config, "trained")]
    with scratch(config.output) as folder:
        JudgeRehearsal(config, folder, found).do()
    return found


class JudgeRehearsal:
    """The steps of a rehearsal of ``config`` in ``folder``, which are noted in ``found``.

    A step is the user's own, of as many items and rollouts, but of one pass: memory is a step's, and so is the rate.
    """

    def __init__(self, config: JudgeTrainingConfig, folder: Path, found: Rehearsal):
        self.config, self.folder, self.found = config, folder, found
        self.output = folder / "output"
        self.few = max(2, config.training.pairs_per_step)
        training = replace(config.training, steps=STEPS, epochs=None, passes=1, checkpoint_steps=1)
        data = [replace(each, limit=min(self.few, each.limit or self.few)) for each in config.data]
        self.small = replace(
            config, data=data, output=str(self.output), training=training, hard_pairs=False, plan=False,
            # Of so few prompts none can be held out.
            assessor=replace(config.assessor, validation=0.0),
        )  # fmt: skip
        self.ingredients: list[Ingredient] = []
        self.seconds = 0.0

    def do(self) -> None:
        """All of them, until one fails that others stand on."""
        if self.found.attempt("reading the data", self.read) is None:
            return
        loading = self.found.attempt("loading the judge", self.load)
        if loading is None:
            return
        if self.config.hard_pairs and self.found.attempt("looking for hard pairs", self.look) is None:
            return
        self.found.attempt("a kill in training", self.kill)
        if self.found.attempt("training", lambda: self.train(loading)) is not None:
            self.reckon()

    def read(self) -> str:
        """Every data set, whole; that its videos can be read is seen of a few."""
        self.ingredients = gather(self.config)
        return " ".join(ingredient.reading.summary() for ingredient in self.ingredients)

    def load(self) -> str:
        """The judge as it is trained, and the one that it is held against."""
        policy = load_policy(resolve(self.config.model), self.config.training, device())
        policy.model.to(device())
        return described({"judge": policy.model, "reference": policy.reference})

    def look(self) -> str:
        """What of a few pairs the judge gets wrong."""
        told: list[str] = []
        for reading in (each.reading for each in self.ingredients):
            pairs = [item for item in reading.items if isinstance(item, PreferenceItem)][:HARD]
            if pairs:
                try:
                    hard_pairs(self.config, replace(reading, items=pairs), self.folder)
                except InputError:
                    # That none of so few is hard says nothing of all.
                    if not (self.folder / "hard_pairs" / f"{reading.name}.json").exists():
                        raise
                hard = read_json(self.folder / "hard_pairs" / f"{reading.name}.json")
                told.append(f"{reading.name}: {len(hard)} of {len(pairs)} are hard")
        return "; ".join(told) or "no pairs"

    def kill(self) -> str:
        """A training in a process of its own, killed at its first checkpoint."""
        return killed_and_forgotten(
            "pipelines.train_reward_model", self.small, self.output,
            lambda: any(self.output.glob("checkpoints/checkpoint-*/complete")), "at its first checkpoint",
        )  # fmt: skip

    def train(self, loading: float) -> str:
        """The same training, gone on with to its end."""
        few = [
            replace(each, reading=each.reading.limited(data.limit, self.config.seed))
            for each, data in zip(self.ingredients, self.small.data, strict=True)
        ]
        started, ends = time.perf_counter(), list[float]()
        trained = train_stage(self.small, few, lambda _: ends.append(time.perf_counter()))
        self.seconds = seconds_of_a_step(started + loading, ends)
        self.found.notes += [f"After {STEPS} steps: {note}" for note in trained.notes]
        if (unreadable := self.output / "unreadable.json").exists():
            self.found.notes += read_json(unreadable).values()
        items = self.small.training.pairs_per_step
        shown = f"{items * self.small.training.num_generations} rollouts"
        if self.config.assessor.stage != "none":
            shown = f"{items} items"
        return (
            f"{len(ends)} of {STEPS} steps, {self.seconds:.1f} s for a pass of {shown}; mean "
            f"{trained.measure} {trained.last:.3f}"
        )

    def reckon(self) -> None:
        """Hours and disk of the whole training."""
        steps = cost(self.config, self.ingredients)["steps"]
        hours = steps * self.config.training.passes * self.seconds / 3600
        self.found.reckon({f"{steps:,} steps": hours}, "The whole training")
        adapts = self.config.training.parameters == "lora" and self.config.assessor.stage == "none"
        result = size_of((self.output / ("adapter" if adapts else "model")).rglob("*"))
        whole = size_of((self.output / "model").rglob("*")) if self.config.merge else 0.0
        # Two checkpoints at a time, each of weights and two moments, beside a third that is written, and the result.
        self.found.need("checkpoints and the result", 10 * result + whole, self.config.output, "--output")

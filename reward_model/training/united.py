"""A judge's refresh on generated pairs and on its own data as stage 2 reads them (VQ-Insight, stage 3)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reward_model.datasets import PreferenceItem, Reading, read_dataset
from reward_model.prompts import JudgePrompt, TaskPrompts
from reward_model.training.config import DataConfig, GRPOTraining, RewardConfig
from reward_model.training.held_out import held_out_pairs
from reward_model.training.mixture import Ingredient, shares, stage_rows, usable
from reward_model.training.readable import readable_rows
from reward_model.training.refresh import read_labelled_pairs
from reward_model.training.stage import by_rewards
from reward_model.training.trainer import run_grpo
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.records import LabelledPair


@dataclass(frozen=True)
class OwnData:
    """What a judge was trained on before: data sets to go on learning from, and pairs that it never saw."""

    train: Sequence[Ingredient]
    held_out: Sequence[LabelledPair]


def read_own_data(
    data: Sequence[DataConfig], seed: int, original: str | None = None, held_out: str | None = None
) -> OwnData:
    """The data sets of ``data`` and the pairs in the file ``original``; held out are the pairs of their test splits, of
    each at most as many items as its limit says, and those in the file ``held_out``.

    Raises InputError as :func:`read_dataset` does, and where no pairs are held out.
    """
    train: list[Ingredient] = []
    for each in data:
        reading = usable(read_dataset(each.name, resolve(each.folder), each.split))
        train.append(Ingredient(reading.limited(each.limit, seed), each.share))
    if original is not None:
        train.append(Ingredient(_reading("original", read_labelled_pairs(resolve(original)))))
    shares(train)
    if not (kept := held_out_pairs(data, seed, held_out)):
        raise InputError(
            "refresh.data leaves no pairs for the gate to measure on; give a data set of pairs with split: train, "
            "whose test split is kept for that, or refresh.held_out_data.",
            exit_code=2,
        )
    return OwnData(train, kept)


def united(generated: Sequence[LabelledPair], own: Sequence[Ingredient], share: float) -> list[Ingredient]:
    """The mixture: ``generated`` pairs, and the judge's ``own`` data with ``share`` of the rows, in (0, 1)."""
    parts = [replace(each, share=float(part) * share) for each, part in zip(own, shares(own), strict=True)]
    return [Ingredient(_reading("generated", generated), 1 - share), *parts]


def _reading(name: str, pairs: Sequence[LabelledPair]) -> Reading:
    """Labelled pairs as a data set."""
    items = [
        PreferenceItem(
            first=pair.first.path, second=pair.second.path, prompt=pair.prompt.text,
            preferred={"overall": pair.preferred},
        )
        for pair in pairs
    ]  # fmt: skip
    return Reading(name, "train", items)


def items_of(mixture: Sequence[Ingredient]) -> int:
    """Items in an epoch of :func:`united`: every generated pair once, and of the other data as their shares say."""
    generated = mixture[0]
    return round(len(generated.reading.items) / (generated.share or 1.0))


def train_united(
    path: str | Path, mixture: Sequence[Ingredient], output: Path, training: GRPOTraining, *, rewards: RewardConfig,
    prompt: JudgePrompt, seed: int, adapter: Path | None, on_step: Callable[[int], None] | None = None,
) -> dict:  # fmt: skip
    """What :func:`reward_model.training.trainer.train_judge` gives, of GRPO on a mixture by the rewards of a stage."""
    count = items_of(mixture)
    training, beside = training.for_items(count), rewards.rows_beside(training.pairs_per_step)
    lay_out = partial(
        stage_rows, steps=training.steps * training.passes, per_step=training.pairs_per_step,
        scale=(1.0, 5.0) if rewards.score == "bell" else (0.0, 100.0), prompts=TaskPrompts(), judge_prompt=prompt,
        seed=seed, one_source_a_step=rewards.ranking, versions=rewards.severities, beside=beside,
    )  # fmt: skip
    rows = readable_rows(mixture, lay_out, prompt.view.sampling, output)
    return run_grpo(
        path, rows, output, training.with_rows(beside), seed=seed, prompt=prompt, counts={"pairs": count},
        adapter=adapter, on_step=on_step, **by_rewards(rewards, training, seed),
    )  # fmt: skip

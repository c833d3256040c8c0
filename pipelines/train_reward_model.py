"""Train a judge by GRPO on public data: ``python -m pipelines.train_reward_model --config RECIPE``.

The recipes in configs/reward_model are VQ-Insight's stages and VQAThinker; docs/training_a_judge.md goes through them.
The same command resumes.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import yaml
from transformers import AutoProcessor

from reward_model.datasets import PreferenceItem, Reading, Split, read_dataset
from reward_model.judging.local import Judge, base_directory, load_model
from reward_model.judging.tasks import TaskPrompts
from reward_model.prompts import JudgePrompt
from reward_model.training.config import GRPOTraining, RewardConfig
from reward_model.training.mixture import Ingredient, stage_rows, usable
from reward_model.training.stage_trainer import StageTrainer
from reward_model.training.trainer import run_grpo
from videoduet.commands import guarded, parse_command
from videoduet.config import Precision, at_least, execution, identity, resolve, to_dict
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track, track_steps
from videoduet.records import Prompt, Video, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_json, write_bytes, write_json
from videoduet.workspace import RunDirectory


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A data set to train on.

    Attributes:
        name: Its name (docs/datasets.md).
        folder: Where it lies.
        split: Which split of it.
        limit: Use that many items, a seeded draw (None: all).
        share: Share of the rows (None: in proportion to its size).
    """

    name: str
    folder: str
    split: Split = "train"
    limit: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        at_least(1, **{f"data {self.name} limit": self.limit})
        if self.share is not None and not 0 < self.share <= 1:
            raise InputError(f"data {self.name}: share is {self.share}; give more than 0, at most 1.", exit_code=2)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a judge by GRPO on public data.

    Attributes:
        model: transformers directory, PEFT directory or hub id to start from; the KL is to this.
        data: The data sets.
        output: Where adapter, model and everything on the way to them is kept.
        adapter: A LoRA on the same model to go on from.
        scale: The scale that scores are asked for on; every data set's own is moved to it.
        rewards: Which rewards are given.
        training: GRPO; ``pairs_per_step`` counts items.
        prompts: Wording of questions about one video.
        num_frames: Frames shown of a video (None: as the judge's prompt says).
        max_new_tokens: Longest answer in tokens (None: as the judge's prompt says).
        hard_pairs: Train only on pairs that the judge gets wrong or cannot decide before training.
        merge: Also write the whole model, which transformers loads without peft.
        dtype: Precision of the weights while the judge looks for hard pairs.
        seed: Seed of all randomness.
        plan: Print what the training will cost, and stop.
    """

    model: str = identity("", "model")
    data: list[DataConfig] = field(default_factory=list, metadata={"role": "identity"})
    output: str = execution("", "output")
    adapter: str | None = identity(None, "LoRA")
    scale: tuple[float, float] = identity((0.0, 100.0), "scale")
    rewards: RewardConfig = RewardConfig()
    training: GRPOTraining = GRPOTraining()
    prompts: TaskPrompts = identity(TaskPrompts(), "wording")
    num_frames: int | None = identity(None, "frames")
    max_new_tokens: int | None = identity(None, "tokens")
    hard_pairs: bool = identity(False, "hard pairs")
    merge: bool = execution(False, "merge")
    dtype: Precision = identity("float32", "precision")
    seed: int = identity(0, "seed")
    plan: bool = execution(False, "plan")

    def __post_init__(self) -> None:
        for name in ("model", "data", "output"):
            if not getattr(self, name):
                raise InputError(f"No {name} is named; give --{name}.", exit_code=2)
        at_least(1, num_frames=self.num_frames, max_new_tokens=self.max_new_tokens)
        if self.scale[0] >= self.scale[1]:
            raise InputError(f"scale is {list(self.scale)}; give a low and a higher bound.", exit_code=2)
        if self.rewards.ranking and self.training.pairs_per_step < 2:
            raise InputError("rewards.ranking compares videos; set training.pairs_per_step to 2 or more.", exit_code=2)

    @property
    def judge_prompt(self) -> JudgePrompt:
        """The comparison's wording, with this training's number of frames and tokens."""
        prompt = JudgePrompt.load(base_directory(resolve(self.model)))
        changed = {"num_frames": self.num_frames, "max_new_tokens": self.max_new_tokens}
        return replace(prompt, **{name: value for name, value in changed.items() if value is not None})


def gather(config: TrainConfig) -> list[Ingredient]:
    """Every data set's usable items; tells what is missing."""
    ingredients = []
    for data in config.data:
        reading = usable(read_dataset(data.name, data.folder, data.split))
        if data.limit is not None:
            order = sorted(range(len(reading.items)), key=lambda index: seed_for(config.seed, "item", index))
            reading = replace(reading, items=[reading.items[index] for index in sorted(order[: data.limit])])
        console.print(reading.summary(), markup=False, highlight=False, soft_wrap=True)
        ingredients.append(Ingredient(reading, data.share))
    return ingredients


def hard_pairs(config: TrainConfig, reading: Reading, output: Path) -> Reading:
    """``reading`` without the pairs that the judge gets right in both orders; other items stay.

    Which are hard is written down once, so that a resumed training sees the same.
    """
    pairs = [(index, item) for index, item in enumerate(reading.items) if isinstance(item, PreferenceItem)]
    if not pairs:
        return reading
    path = output / "hard_pairs" / f"{reading.name}.json"
    if processes().is_main_process and not path.exists():
        judge = Judge.from_pretrained(
            resolve(config.model), adapter=config.adapter, dtype=config.dtype, prompt=config.judge_prompt
        )
        asked = [
            VideoPair(
                prompt=Prompt.of(item.prompt),
                first=Video(id=item.first, path=item.first),
                second=Video(id=item.second, path=item.second),
            )
            for _, item in pairs
        ]
        found = track(judge.compare(asked), f"{reading.name}: hard pairs", total=len(asked))
        right = {
            index
            for (index, item), comparison in zip(pairs, found, strict=True)
            if comparison.preferred_id == {"first": item.first, "second": item.second}[item.preferred["overall"]]
        }
        write_json(path, sorted({index for index, _ in pairs} - right))
    processes().wait_for_everyone()
    hard = set(read_json(path))
    items = [i for n, i in enumerate(reading.items) if n in hard or not isinstance(i, PreferenceItem)]
    if not items:
        raise InputError(f"{reading.name}: the judge gets every pair right, so none is hard; set hard_pairs: false.")
    left_out = reading.left_out.copy()
    left_out["pairs that the judge gets right"] = len(reading.items) - len(items)
    return replace(reading, items=items, left_out=left_out)


def cost(config: TrainConfig, ingredients: Sequence[Ingredient]) -> dict[str, int]:
    """What a training generates at most: rollouts, those on perturbed videos among them, and tokens."""
    training, group = config.training, config.training.num_generations
    items = training.steps * training.pairs_per_step
    scored = sum(len(i.reading.items) for i in ingredients if i.reading.scale is not None)
    share = scored / sum(len(i.reading.items) for i in ingredients)
    more = {"none": 0, "modeling": group // 2, "consistency": group}[config.rewards.temporal]
    rollouts = items * group + round(items * share) * more
    return {
        "steps": training.steps,
        "items": items,
        "rollouts": rollouts,
        "of_which_perturbed": round(items * share) * more,
        "tokens_at_most": rollouts * config.judge_prompt.max_new_tokens,
    }


def train(config: TrainConfig) -> Path | None:
    """Train, or go on; returns the adapter's directory, or the whole model's where it is merged (None: only a plan)."""
    directory, state = RunDirectory(config.output), processes()
    output = directory.root
    if (output / "config.yaml").exists() and (changed := directory.touched_phases(config, {})):
        raise InputError(f"{config.output} was trained with another {next(iter(changed))}; give another --output.")
    ingredients = gather(config)
    if config.plan:
        for name, value in cost(config, ingredients).items():
            console.print(f"{name.replace('_', ' ')}: {value:,}", markup=False, highlight=False)
        return None
    if state.is_main_process:
        write_bytes(output / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
    if config.hard_pairs:
        ingredients = [replace(i, reading=hard_pairs(config, i.reading, output)) for i in ingredients]
    if state.is_main_process:
        told = [{"summary": i.reading.summary(), "missing": i.reading.missing} for i in ingredients]
        write_json(output / "data.json", told)
    prompt, training, weights = config.judge_prompt, config.training, {"format": config.training.format_weight}
    rows = stage_rows(
        ingredients, steps=training.steps, per_step=training.pairs_per_step, scale=config.scale,
        prompts=config.prompts, judge_prompt=prompt, seed=config.seed, one_source_a_step=config.rewards.ranking,
    )  # fmt: skip
    seed = seed_for(config.seed, "perturbation")
    with track_steps("training the judge") as on_step:
        summary = run_grpo(
            resolve(config.model), rows, output, training, seed=config.seed, prompt=prompt,
            trainer_class=partial(StageTrainer, rewards=config.rewards, perturbation_seed=seed),
            reward_weights=[weights.get(name, 1.0) for name in config.rewards.columns],
            counts={"items": sum(len(i.reading.items) for i in ingredients)},
            adapter=Path(config.adapter) if config.adapter else None,
            on_step=lambda step: on_step({"step": step, "steps": training.steps}),
        )  # fmt: skip
    result = output / "adapter"
    if config.merge:
        result = output / "model"
        if state.is_main_process and not result.exists():
            _merged(output / "adapter", prompt, result)
    if state.is_main_process:
        console.print(
            f"{summary['steps']} steps; mean reward {summary['reward_first']:.3f} at first, "
            f"{summary['reward_last']:.3f} at last. Measure it: python -m pipelines.evaluate_judge --judge {result} "
            "--benchmark NAME --data FOLDER --output DIR",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    state.wait_for_everyone()
    return result


def _merged(adapter: Path, prompt: JudgePrompt, target: Path) -> None:
    """The whole model with the adapter in its weights, its processor and its prompt."""
    model, processor = load_model(adapter), AutoProcessor.from_pretrained(base_directory(adapter))
    with atomic_path(target) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        prompt.save(temporary)


def parse(arguments: Sequence[str]) -> TrainConfig:
    return parse_command(TrainConfig, "train_reward_model", __doc__, arguments)


def main() -> None:
    config = parse(sys.argv[1:])
    guarded(lambda: train(config) and None, "the same command")


if __name__ == "__main__":
    main()

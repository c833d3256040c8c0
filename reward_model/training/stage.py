"""A stage of a judge's training on public data: gather items, keep what is hard, lay out rows, train, merge."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reward_model.datasets import PreferenceItem, Reading, read_dataset
from reward_model.judging.build import build_judge
from reward_model.judging.loading import base_directory, load_model, load_processor
from reward_model.prompts import JudgePrompt
from reward_model.training.config import VERSIONS, JudgeTrainingConfig
from reward_model.training.mixture import Ingredient, stage_rows, usable
from reward_model.training.readable import readable_rows
from reward_model.training.stage_trainer import StageTrainer
from reward_model.training.trainer import run_grpo
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track, track_steps
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_json, write_json
from videoduet.workspace import Workspace


@dataclass(frozen=True)
class Trained:
    """What a stage left: the directory of the adapter, or of the whole model where it is merged, and how rewards
    rose (means over the first and last tenth of the steps); ``notes`` say what kept it from learning.
    """

    path: Path
    steps: int
    reward_first: float
    reward_last: float
    notes: tuple[str, ...] = ()


def judge_prompt(config: JudgeTrainingConfig) -> JudgePrompt:
    """The comparison's wording, with this training's number of frames and tokens."""
    prompt = JudgePrompt.load(base_directory(resolve(config.model)))
    changed = {"num_frames": config.num_frames, "max_new_tokens": config.max_new_tokens}
    return replace(prompt, **{name: value for name, value in changed.items() if value is not None})


def gather(config: JudgeTrainingConfig) -> list[Ingredient]:
    """Every data set's usable items; tells what is missing."""
    ingredients = []
    for data in config.data:
        reading = usable(read_dataset(data.name, data.folder, data.split)).limited(data.limit, config.seed)
        console.print(reading.summary(), markup=False, highlight=False, soft_wrap=True)
        ingredients.append(Ingredient(reading, data.share))
    return ingredients


def hard_pairs(config: JudgeTrainingConfig, reading: Reading, output: Path) -> Reading:
    """``reading`` without the pairs that the judge gets right in both orders; other items stay.

    Which are hard is written down once, so that a resumed training sees the same. Raises InputError where none is.
    """
    pairs = {index: item for index, item in enumerate(reading.items) if isinstance(item, PreferenceItem)}
    if not pairs:
        return reading
    path = output / "hard_pairs" / f"{reading.name}.json"
    if processes().is_main_process and not path.exists():
        judge = build_judge(config.model, adapter=config.adapter, dtype=config.dtype, prompt=judge_prompt(config))
        asked = [item.pair for item in pairs.values()]
        found = track(judge.compare(asked), f"{reading.name}: hard pairs", total=len(asked))
        right = {
            index
            for (index, item), comparison in zip(pairs.items(), found, strict=True)
            if comparison.preferred_id == {"first": item.first, "second": item.second}[item.preferred["overall"]]
        }
        write_json(path, sorted(pairs.keys() - right))
    processes().wait_for_everyone()
    hard = set(read_json(path))
    items = [item for index, item in enumerate(reading.items) if index in hard or index not in pairs]
    if not items:
        raise InputError(f"{reading.name}: the judge gets every pair right, so none is hard; set hard_pairs: false.")
    left_out = reading.left_out.copy()
    left_out["pairs that the judge gets right"] = len(reading.items) - len(items)
    return replace(reading, items=items, left_out=left_out)


def cost(config: JudgeTrainingConfig, ingredients: Sequence[Ingredient]) -> dict[str, int]:
    """What a training generates at most: rollouts, those on perturbed videos among them, and tokens."""
    training, group = config.training, config.training.num_generations
    items = training.steps * training.pairs_per_step
    scored = sum(len(i.reading.items) for i in ingredients if i.reading.scale is not None)
    share = scored / sum(len(i.reading.items) for i in ingredients)
    more = {"modeling": group // 2, "fidelity": group // 2, "consistency": group}.get(config.rewards.temporal, 0)
    rollouts = items * group + round(items * share) * more
    return {
        "steps": training.steps,
        "items": items,
        "rollouts": rollouts,
        "of_which_perturbed": round(items * share) * more,
        "tokens_at_most": rollouts * judge_prompt(config).max_new_tokens,
    }


def train_stage(config: JudgeTrainingConfig, ingredients: Sequence[Ingredient]) -> Trained:
    """What the training left, or went on to leave, of the judge.

    Raises InputError where ``output`` holds another training.
    """
    workspace, state = Workspace(config.output), processes()
    output = workspace.root
    if state.is_main_process:
        workspace.adopt(config, "trained")
    if config.hard_pairs:
        ingredients = [replace(i, reading=hard_pairs(config, i.reading, output)) for i in ingredients]
    if state.is_main_process:
        told = [{"summary": i.reading.summary(), "missing": i.reading.missing} for i in ingredients]
        write_json(output / "data.json", told)
    prompt, training, weights = judge_prompt(config), config.training, {"format": config.training.format_weight}
    lay_out = partial(
        stage_rows, steps=training.steps, per_step=training.pairs_per_step, scale=config.scale,
        prompts=config.prompts, judge_prompt=prompt, seed=config.seed, one_source_a_step=config.rewards.ranking,
        versions=VERSIONS.get(config.rewards.temporal, ()),
    )  # fmt: skip
    rows = readable_rows(ingredients, lay_out, prompt.view.sampling, output)
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
    result = output / ("model" if config.merge else "adapter")
    if config.merge and state.is_main_process and not result.exists():
        _merge(output / "adapter", prompt, result)
    state.wait_for_everyone()
    return Trained(
        result, summary["steps"], summary["reward_first"], summary["reward_last"], tuple(summary.get("notes", ()))
    )


def _merge(adapter: Path, prompt: JudgePrompt, target: Path) -> None:
    """Write the whole model with the adapter in its weights, its processor and its prompt."""
    model, processor = load_model(adapter), load_processor(base_directory(adapter))
    with atomic_path(target) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        prompt.save(temporary)

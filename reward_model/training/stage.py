"""A stage of a judge's training on public data: gather items, keep what is hard, lay out rows, train, merge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from reward_model.datasets import PreferenceItem, Reading, ScoredClip, read_dataset
from reward_model.judging.build import build_judge
from reward_model.judging.loading import (
    base_directory,
    load_model,
    load_processor,
    own_prompts,
    wording_directory,
)
from reward_model.prompts import DEFAULT_PROMPT, JudgePrompt, Prompts, TaskPrompts
from reward_model.training.config import GRPOTraining, JudgeTrainingConfig, RewardConfig
from reward_model.training.mixture import Ingredient, stage_rows, usable
from reward_model.training.readable import readable_rows
from reward_model.training.sft import run_sft
from reward_model.training.stage_trainer import StageTrainer
from reward_model.training.trainer import run_grpo
from reward_model.wordings import DIRECT, DIRECT_COMPARISON, Shown, as_asked, save, trained
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track, track_steps
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_json, write_json
from videoduet.workspace import Workspace


@dataclass(frozen=True)
class Trained:
    """What a stage left: the directory of the adapter, or of the whole model where it is merged or all trained, and
    what became of its ``measure``, the reward or the loss (means over the first and last tenth of the steps); ``notes``
    say what kept it from learning.
    """

    path: Path
    steps: int
    first: float
    last: float
    notes: tuple[str, ...] = ()
    measure: str = "reward"


def judge_prompt(config: JudgeTrainingConfig) -> JudgePrompt:
    """The comparison's wording, with what this training shows."""
    kept = JudgePrompt.load(wording_directory(resolve(config.model)))
    # A stage without reasoning leaves a wording that asks for none, which would be paid for here.
    direct = (kept.system, kept.question) == (DIRECT_COMPARISON.system, DIRECT_COMPARISON.question)
    return _shown(config, DIRECT_COMPARISON if not config.reasoning else DEFAULT_PROMPT if direct else kept)


def _shown(config: JudgeTrainingConfig, prompt: JudgePrompt) -> JudgePrompt:
    return Shown(
        num_frames=config.num_frames, frames=config.frames, max_pixels=config.max_pixels,
        max_new_tokens=config.max_new_tokens, layout=config.layout,
    ).of(prompt)  # fmt: skip


def task_prompts(config: JudgeTrainingConfig) -> TaskPrompts:
    """The wording of other questions: the recipe's own, or a direct one where it has none and wants no reasoning."""
    return DIRECT if not config.reasoning and config.prompts == TaskPrompts() else config.prompts


def asked_from_now_on(config: JudgeTrainingConfig, ingredients: Sequence[Ingredient]) -> Prompts:
    """What the trained judge is asked: as it was trained to be. A score as the first data set that has scores asks."""
    prompt, score = judge_prompt(config), None
    scored = [item for i in ingredients for item in i.reading.items[:1] if isinstance(item, ScoredClip)]
    if scored:
        names, prompted = tuple(scored[0].scores), scored[0].prompt is not None
        score = as_asked(task_prompts(config), names, config.scale, prompted=prompted, shown=prompt)
    own = own_prompts(resolve(config.model), Prompts())
    compares = any(isinstance(item, PreferenceItem) for i in ingredients for item in i.reading.items[:1])
    # Without pairs the wording stays that of the stage before; what is shown is what the eyes were trained on.
    return trained(own, prompt if compares or own.compare is None else _shown(config, own.compare), score)


def gather(config: JudgeTrainingConfig) -> list[Ingredient]:
    """Every data set's usable items; tells what is missing."""
    ingredients = []
    for data in config.data:
        reading = usable(read_dataset(data.name, data.folder, data.split)).limited(data.limit, config.seed)
        console.print(reading.summary(), markup=False, highlight=False, soft_wrap=True)
        ingredients.append(Ingredient(reading, data.share))
    _check_scales(config, ingredients)
    return ingredients


def _check_scales(config: JudgeTrainingConfig, ingredients: Sequence[Ingredient]) -> None:
    """Raises InputError where rewards of scores are asked for, and no data set has a scale."""
    given = {
        "ranking": config.rewards.ranking,
        f"temporal: {config.rewards.temporal}": config.rewards.temporal != "none",
    }
    asked = [name for name, on in given.items() if on]
    if asked and not any(i.reading.scale for i in ingredients):
        names = ", ".join(i.reading.name for i in ingredients)
        raise InputError(
            f"rewards.{asked[0]} is for scores, and {names} have no scale of scores; take it out, or add scored data.",
            exit_code=2,
        )


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
    """What a training generates at most: rollouts, those on perturbed videos among them, and tokens; nothing where it
    learns to rate in numbers.
    """
    count = sum(len(i.reading.items) for i in ingredients)
    training, group = config.training.for_items(count), config.training.num_generations
    items = training.steps * training.items_per_step
    if config.assessor.stage != "none":
        return {"steps": training.steps, "items": items}
    scored = sum(len(i.reading.items) for i in ingredients if i.reading.scale is not None)
    share = scored / count
    more = {"modeling": group // 2, "fidelity": group // 2, "consistency": group}.get(config.rewards.temporal, 0)
    beside = training.steps * training.passes * _rows_beside(config) if scored else 0
    perturbed = round(items * share) * more + beside * group
    return {
        "steps": training.steps,
        "items": items,
        "rollouts": items * group + perturbed,
        "of_which_perturbed": perturbed,
        "tokens_at_most": (items * group + perturbed) * judge_prompt(config).max_new_tokens,
    }


def _rows_beside(config: JudgeTrainingConfig) -> int:
    """Rows of a pass beside its items: versions of clips, which rewards alone learn from."""
    return config.rewards.rows_beside(config.training.pairs_per_step) if config.training.method == "grpo" else 0


def train_stage(
    config: JudgeTrainingConfig, ingredients: Sequence[Ingredient], on_step: Callable[[int], None] | None = None
) -> Trained:
    """What the training left, or went on to leave, of the judge; ``on_step`` gets the number of each step that is done.

    Raises InputError where ``output`` holds another training.
    """
    workspace, state = Workspace(config.output), processes()
    output = workspace.root
    if state.is_main_process:
        workspace.adopt(config, "trained")
    if config.assessor.stage != "none":
        return _assessed(config, ingredients, on_step)
    if config.hard_pairs:
        ingredients = [replace(i, reading=hard_pairs(config, i.reading, output)) for i in ingredients]
    if state.is_main_process:
        write_json(output / "data.json", _told(ingredients))
    count = sum(len(i.reading.items) for i in ingredients)
    prompt, training, beside = judge_prompt(config), config.training.for_items(count), _rows_beside(config)
    lay_out = partial(
        stage_rows, steps=training.steps * training.passes, per_step=training.pairs_per_step, scale=config.scale,
        prompts=task_prompts(config), judge_prompt=prompt, seed=config.seed, one_source_a_step=config.rewards.ranking,
        versions=config.rewards.severities, beside=beside,
    )  # fmt: skip
    rows = readable_rows(ingredients, lay_out, prompt.view.sampling, output)
    kept = asked_from_now_on(config, ingredients)
    with track_steps("training the judge") as show:

        def stepped(step: int) -> None:
            show({"step": step, "steps": training.steps})
            if on_step is not None:
                on_step(step)

        run = run_sft if training.method == "sft" else partial(
            run_grpo, **by_rewards(config.rewards, config.training, config.seed, reasoning=config.reasoning)
        )  # fmt: skip
        summary = run(
            resolve(config.model), rows, output, training.with_rows(beside), seed=config.seed, prompt=prompt,
            counts={"items": count},
            kept=kept, adapter=Path(config.adapter) if config.adapter else None,
            on_step=stepped,
        )  # fmt: skip
    whole = config.merge or training.parameters == "all"
    result = output / ("model" if whole else "adapter")
    if config.merge and state.is_main_process and not result.exists():
        _merge(output / "adapter", kept, result)
    state.wait_for_everyone()
    measure = "loss" if training.method == "sft" else "reward"
    first, last = (summary[f"{measure}_{when}"] for when in ("first", "last"))
    return Trained(result, summary["steps"], first, last, tuple(summary.get("notes", ())), measure)


def _assessed(
    config: JudgeTrainingConfig, ingredients: Sequence[Ingredient], on_step: Callable[[int], None] | None
) -> Trained:
    """The same of one of AIGV-Assessor's stages, which leaves a whole model."""
    from reward_model.training.assessing import train_assessor

    output = Workspace(config.output).root
    if processes().is_main_process:
        write_json(output / "data.json", _told(ingredients))
    summary = train_assessor(config, ingredients, output, on_step)
    return Trained(output / "model", summary["steps"], summary["loss_first"], summary["loss_last"], measure="loss")


def _told(ingredients: Sequence[Ingredient]) -> list[dict[str, Any]]:
    return [{"summary": i.reading.summary(), "missing": i.reading.missing} for i in ingredients]


def by_rewards(rewards: RewardConfig, training: GRPOTraining, seed: int, *, reasoning: bool = True) -> dict[str, Any]:
    """What GRPO is given besides: who rewards, and what the rewards weigh (a format, only where thoughts are asked
    for).
    """
    weights = {"format": training.format_weight if reasoning else 0.0}
    return {
        "trainer_class": partial(StageTrainer, rewards=rewards, perturbation_seed=seed_for(seed, "perturbation")),
        "reward_weights": [weights.get(name, 1.0) for name in rewards.columns],
    }


def _merge(adapter: Path, prompts: Prompts, target: Path) -> None:
    """Write the whole model with the adapter in its weights, in float32, its processor and what it is asked.

    Rounded to bfloat16 most of what the adapter learned would be gone.
    """
    model, processor = load_model(adapter), load_processor(base_directory(adapter))
    with atomic_path(target) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        save(prompts, temporary)

"""Train a judge by GRPO: a LoRA on a frozen base, or all of its weights."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl import GRPOConfig

from reward_model.encoding import ShowingEncoder, tokens_per_second
from reward_model.families.base import has_motion
from reward_model.judging.loading import base_directory, load_processor, own_prompts, wording_directory
from reward_model.parsing import parse_choice
from reward_model.prompts import JudgePrompt, Prompts
from reward_model.rewards import comparison_reward, format_reward
from reward_model.training.checkpoints import COMPLETE as COMPLETE
from reward_model.training.checkpoints import Marks
from reward_model.training.checkpoints import last_checkpoint as _last_checkpoint  # noqa: F401
from reward_model.training.config import GRPOTraining
from reward_model.training.diagnosis import diagnose
from reward_model.training.finishing import check_batch as _check_batch  # noqa: F401
from reward_model.training.finishing import finish, kept_summary, micro_batch, rise
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.policy import Policy, load_policy
from reward_model.training.shards import launched_sharded
from videoduet.processes import device
from videoduet.records import LabelledPair
from videoduet.seeding import seed_for

MEASURE = "reward"
"""What a training by rewards tells of itself."""


def accuracy_reward(completions: list, preferred: list[str], **_) -> list[float]:
    """Comparison reward of each completion against the label of its showing."""
    texts = [completion[0]["content"] for completion in completions]
    return [comparison_reward(parse_choice(text), label) for text, label in zip(texts, preferred, strict=True)]


def tags_reward(completions: list, **_) -> list[float]:
    """Format reward of each completion."""
    return [format_reward(completion[0]["content"]) for completion in completions]


def showings(pairs: Sequence[LabelledPair], prompt: JudgePrompt, seed: int, count: int) -> list[dict]:
    """``count`` rows in the order of training: all pairs again and again, each time in an order of its own.

    The two videos of a row are in a seeded 50/50 order with the label flipped to match, so that no position is worth
    learning. All rows are laid out at once, as a trainer that is resumed in its second epoch does not know in which
    order the first one left its sampler.
    """
    visits = -(-count // len(pairs))
    order = [
        (visit, int(index))
        for visit in range(visits)
        for index in np.random.default_rng(seed_for(seed, "visit", visit)).permutation(len(pairs))
    ]
    rows = []
    for visit, index in order[:count]:
        pair, swap = pairs[index], bool(np.random.default_rng(seed_for(seed, "order", visit, index)).integers(2))
        videos = (pair.second.path, pair.first.path) if swap else (pair.first.path, pair.second.path)
        label = {"first": "second", "second": "first"}[pair.preferred] if swap else pair.preferred
        rows.append({"prompt": prompt.messages(pair.prompt.text, *videos), "preferred": label})
    return rows


def _arguments(
    config: GRPOTraining, output_dir: Path, max_new_tokens: int, suppressed: list[int], seed: int, weights: list[float]
) -> GRPOConfig:
    what = f"{config.pairs_per_step} pairs x {config.num_generations} rollouts"
    mine, size = micro_batch(config.pairs_per_step * config.num_generations, config.micro_batch, what)
    return GRPOConfig(
        output_dir=str(output_dir),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=mine // size * config.passes,
        steps_per_generation=mine // size,
        num_generations=config.num_generations,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_completion_length=max_new_tokens,
        max_steps=config.steps,
        shuffle_dataset=False,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=2,
        epsilon=config.clip,
        beta=config.kl_weight,
        use_bias_correction_kl=False,
        loss_type="grpo",
        reward_weights=weights,
        generation_kwargs={"suppress_tokens": suppressed},
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        seed=seed % 2**31,
        log_level="error",
    )


def train_judge(
    path: str | Path,
    pairs: Sequence[LabelledPair],
    output_dir: Path,
    config: GRPOTraining,
    *,
    seed: int,
    prompt: JudgePrompt | None = None,
    adapter: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict:
    """A summary of GRPO of the judge at ``path`` on ``pairs``, whose LoRA is written to ``output_dir/adapter`` (or the
    whole judge to ``output_dir/model``, where all weights are trained).

    It is asked in the words of ``prompt`` (None: those that are kept beside its weights, else the general ones).
    ``adapter`` (a LoRA on the same base) is where training starts; the KL reference is the base without any adapter.
    Interrupted, the same call goes on at the last whole checkpoint and ends with the same bytes. The summary holds
    ``steps``, ``pairs``, ``reward_first`` and ``reward_last`` (means over the first and last tenth of the steps, at
    least one), and ``notes`` where something kept the judge from learning.
    """
    prompt, config = prompt or JudgePrompt.load(wording_directory(path)), config.for_items(len(pairs))
    return run_grpo(
        path,
        showings(pairs, prompt, seed, config.steps * config.items_per_step),
        output_dir,
        config,
        seed=seed,
        prompt=prompt,
        trainer_class=partial(VideoGRPOTrainer, reward_funcs=[accuracy_reward, tags_reward], share_videos=True),
        reward_weights=[1.0, config.format_weight],
        counts={"pairs": len(pairs)},
        adapter=adapter,
        on_step=on_step,
    )


def run_grpo(
    path: str | Path,
    rows: list[dict],
    output_dir: Path,
    config: GRPOTraining,
    *,
    seed: int,
    prompt: JudgePrompt,
    trainer_class: Callable[..., VideoGRPOTrainer],
    reward_weights: list[float],
    counts: dict[str, int],
    kept: Prompts | None = None,
    adapter: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict:
    """What GRPO of the judge at ``path`` on ``rows``, in their order, came to, as :func:`train_judge` says of pairs.

    ``prompt`` says how many frames are shown and how long an answer may be; ``trainer_class`` brings the rewards,
    ``reward_weights`` their weights. ``kept`` is what is kept beside what is trained, as what it is asked from then on
    (None: what the judge at ``path`` is asked, and ``prompt``). The summary holds ``counts`` too.
    """
    if (done := output_dir / "training.json").exists():
        return kept_summary(done, counts, MEASURE)
    kept = kept or replace(own_prompts(path, Prompts()), compare=prompt)
    with launched_sharded() as shards:
        policy, processor = load_policy(path, config, device(), shards=shards), load_processor(base_directory(path))
        trainer = build_trainer(
            policy, processor, rows, output_dir / "checkpoints", config, seed=seed, prompt=prompt,
            trainer_class=partial(trainer_class, shards=shards), reward_weights=reward_weights, on_step=on_step,
        )  # fmt: skip
        return finish(
            trainer, processor, output_dir, config, kept=kept, adapter=adapter,
            at_once=config.items_per_step * config.num_generations,
            summarise=lambda log: {
                **counts, **rise(log, MEASURE),
                **({"notes": notes} if (notes := diagnose(log, prompt.max_new_tokens)) else {}),
            },
        )  # fmt: skip


def build_trainer(
    policy: Policy,
    processor: Any,
    rows: list[dict],
    checkpoints: Path,
    config: GRPOTraining,
    *,
    seed: int,
    prompt: JudgePrompt,
    trainer_class: Callable[..., VideoGRPOTrainer],
    reward_weights: list[float],
    on_step: Callable[[int], None] | None = None,
) -> VideoGRPOTrainer:
    """A trainer of ``policy`` on ``rows``; the rest as in :func:`run_grpo`."""
    # A video token in an answer would stand for a video that is not there.
    told, moves = tokens_per_second(policy.model.config), has_motion(policy.model)
    encoder = ShowingEncoder.for_view(processor, prompt.view, told, moves)
    suppressed = processor.tokenizer.convert_tokens_to_ids(list(encoder.special))
    # The trainer makes the LoRA before it seeds anything.
    torch.manual_seed(seed_for(seed, "lora"))
    return trainer_class(
        model=policy.model,
        reference=policy.reference,
        processing_class=processor,
        args=_arguments(config, checkpoints, prompt.max_new_tokens, suppressed, seed, reward_weights),
        train_dataset=Dataset.from_list(rows),
        peft_config=policy.lora,
        callbacks=[Marks(on_step)],
        encoder=encoder,
    )

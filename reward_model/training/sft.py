"""The plain alternative to rewards, to compare with: the same items, and cross-entropy on the right answer (SFT)."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import get_peft_model
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, TrainingArguments

from reward_model.encoding import Showing, ShowingEncoder, tokens_per_second
from reward_model.families.base import has_motion
from reward_model.families.sense import seam_for
from reward_model.judging.loading import base_directory, load_processor
from reward_model.prompts import JudgePrompt, Prompts
from reward_model.training.checkpoints import Marks
from reward_model.training.config import GRPOTraining
from reward_model.training.finishing import finish, kept_summary, micro_batch, rise
from reward_model.training.policy import load_policy
from reward_model.training.shards import ShardingTrainer, launched_sharded
from videoduet.processes import device
from videoduet.seeding import seed_for

MEASURE = "loss"


def answer_text(right: Mapping[str, Any], labels: tuple[str, str]) -> str:
    """The answer that says what is ``right`` (:func:`reward_model.judging.tasks.right_answer`), in its tags; ``labels``
    name the videos of a pair.
    """
    if right["kind"] == "preference":
        said = labels[right["preferred"] == "second"].strip()
    elif right["kind"] == "question":
        said = right["preferred"]
    elif right["kind"] == "score":
        said = f"{right['target']:.2f}"
    else:
        said = json.dumps({name: round(value, 2) for name, value in right["targets"].items()})
    return f"<answer>{said}</answer>"


class AnswerTrainer(ShardingTrainer):
    """Rows hold ``prompt``, chat messages that name videos by path, and ``answer``; they are shown in their order."""

    def __init__(self, *args: Any, encoder: ShowingEncoder, shards: bool = False, **kwargs: Any):
        self.encoder, self.shards = encoder, shards
        super().__init__(*args, data_collator=_as_they_are, **kwargs)
        self.seam = seam_for(self.model, encoder)

    def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
        return SequentialSampler(range(len(self.train_dataset)))  # pyright: ignore[reportArgumentType]

    def compute_loss(self, model: torch.nn.Module, inputs: list[dict], *_: Any, **__: Any) -> Tensor:
        """The mean over rows of a row's mean cross-entropy on the tokens of its answer."""
        tokenizer = self.encoder.processor.tokenizer
        said = [tokenizer(f"{row['answer']}<|im_end|>").input_ids for row in inputs]
        showings = [self.encoder.showing(row["prompt"]) for row in inputs]
        rows = [Showing(s.ids + ids, s.videos, s.paths) for s, ids in zip(showings, said, strict=True)]
        tensors = {name: value.to(self.args.device) for name, value in self.encoder.collate(rows, pixels=True).items()}
        longest = max(map(len, said))
        if self.seam is not None:
            self.seam.expect([row.videos for row in rows])
        with self.accelerator.autocast():
            logits = model(**tensors, use_cache=False, logits_to_keep=longest + 1).logits[:, :-1]
        # Rows end alike, so answers are what stands last.
        losses = F.cross_entropy(
            logits.float().transpose(1, 2), tensors["input_ids"][:, -longest:], reduction="none"
        )  # fmt: skip
        lengths = torch.tensor([len(ids) for ids in said], device=losses.device)
        mine = torch.arange(longest, device=losses.device) >= longest - lengths[:, None]
        return (losses * mine).sum(1).div(lengths).mean()


def _as_they_are(rows: list[dict]) -> Any:
    return rows


def run_sft(
    path: str | Path,
    rows: Sequence[Mapping[str, str]],
    output_dir: Path,
    config: GRPOTraining,
    *,
    seed: int,
    prompt: JudgePrompt,
    counts: dict[str, int],
    kept: Prompts,
    adapter: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> dict:
    """What the supervised training of the judge at ``path`` came to: ``steps``, ``counts``, ``loss_first`` and
    ``loss_last``; the rest as in :func:`reward_model.training.trainer.run_grpo`.

    ``rows`` have ``prompt``, and ``right`` in JSON.
    """
    if (done := output_dir / "training.json").exists():
        return kept_summary(done, counts, MEASURE)
    lessons = [
        {"prompt": row["prompt"], "answer": answer_text(json.loads(row["right"]), prompt.labels)} for row in rows
    ]
    with launched_sharded() as shards:
        policy = load_policy(path, config, device(), shards=shards)
        processor = load_processor(base_directory(path))
        torch.manual_seed(seed_for(seed, "lora"))
        model = policy.model if policy.lora is None else get_peft_model(policy.model, policy.lora)
        if torch.cuda.is_available():
            model.enable_input_require_grads()
        trainer = AnswerTrainer(
            model=model,
            args=_arguments(config, output_dir / "checkpoints", seed),
            train_dataset=lessons,
            callbacks=[Marks(on_step)],
            encoder=ShowingEncoder.for_view(processor, prompt.view, tokens_per_second(model.config), has_motion(model)),
            shards=shards,
        )
        trainer.remove_callback(PrinterCallback)
        summary = lambda log: {**counts, **rise(log, MEASURE)}  # noqa: E731
        return finish(
            trainer, processor, output_dir, config, kept=kept, adapter=adapter, at_once=config.items_per_step,
            summarise=summary,
        )  # fmt: skip


def _arguments(config: GRPOTraining, output_dir: Path, seed: int) -> TrainingArguments:
    mine, size = micro_batch(config.items_per_step, config.micro_batch, "items")
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(output_dir), per_device_train_batch_size=size, gradient_accumulation_steps=mine // size,
        max_steps=config.steps, learning_rate=config.learning_rate, lr_scheduler_type="constant_with_warmup",
        warmup_steps=2, save_strategy="steps", save_steps=config.checkpoint_steps, save_total_limit=2, logging_steps=1,
        report_to=[], disable_tqdm=True, gradient_checkpointing=cuda, bf16=cuda, use_cpu=not cuda,
        remove_unused_columns=False, seed=seed % 2**31, log_level="error",
    )  # fmt: skip

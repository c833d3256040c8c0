"""Training in AIGV-Assessor's three stages: projectors to say levels, LoRA and heads to score, networks to compare.

What is trained is little beside the judge, and is all that checkpoints hold; what a stage leaves is a whole model, as
it was at the best validation.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PrinterCallback, TrainingArguments

from reward_model.encoding import ShowingEncoder
from reward_model.families.assessor import Assessor
from reward_model.families.base import has_motion, plain_model
from reward_model.families.pairs import PairNetworks, compares, put_pairs
from reward_model.families.scores import HEADS, PAIRS, ScoreHeads, put_heads, score_dimensions, scores_in_numbers
from reward_model.families.sense import PROJECTOR
from reward_model.judging.loading import base_directory, load_model, load_processor, own_prompts
from reward_model.presets import ASSESSMENT
from reward_model.prompts import Prompts, VideoPrompt
from reward_model.training.assessed_rows import Lessons, check_items, dimensions_in, lessons
from reward_model.training.assessor_loss import AssessorLoss
from reward_model.training.assessor_trainer import CHECKPOINTS, AssessorTrainer, StopEarly, best_weights
from reward_model.training.calibration import calibrate
from reward_model.training.checkpoints import Marks, last_checkpoint
from reward_model.training.config import JudgeTrainingConfig
from reward_model.training.finishing import check_batch, kept_summary, micro_batch, rise
from reward_model.training.mixture import Ingredient
from reward_model.training.policy import LANGUAGE, precision
from reward_model.training.readable import readable_rows
from reward_model.training.shards import launched_sharded
from reward_model.wordings import Shown
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.processes import device, processes
from videoduet.progress import track_steps
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, write_json

VISION = r".*vision_tower\.encoder\..*(_proj|projection_layer|fc1|fc2)"
"""Layers of the vision tower that the release puts a LoRA into; the projectors, which stage 1 trained, stay."""


def train_assessor(
    config: JudgeTrainingConfig, ingredients: Sequence[Ingredient], output: Path,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What a stage came to: ``steps``, ``items``, ``loss_first`` and ``loss_last``, ``validation`` by step and the
    ``best`` step (None: nothing was held out). ``output/model`` is the judge that it leaves.

    Interrupted, the same call goes on at the last whole checkpoint and ends with the same bytes. Raises InputError
    where data and judge do not go together.
    """
    counts = {"items": sum(len(i.reading.items) for i in ingredients)}
    if (done := output / "training.json").exists():
        return kept_summary(done, counts, "loss")
    path = resolve(config.model)
    with launched_sharded() as shards:
        if shards:
            raise InputError("AIGV-Assessor's stages train too little to be put in shards; start them without FSDP.")
        model: Any = load_model(path, dtype=precision(path, config.training, device()))
        model.to(device())
        dimensions = score_dimensions(model.config) or dimensions_in(ingredients)
        check_items(ingredients, dimensions, pairs=config.assessor.stage == "pairs")
        prompt = asked(config, path, dimensions)
        training = config.training.for_items(counts["items"])
        found: list[Lessons] = []

        def lay_out(left: Sequence[Ingredient]) -> list[dict[str, Any]]:
            found.append(lessons(
                left, dimensions, count=training.steps * training.items_per_step,
                validation=config.assessor.validation, seed=config.seed,
            ))  # fmt: skip
            return [*found[-1].train, *found[-1].held_out]

        processor = load_processor(base_directory(path))
        encoder = ShowingEncoder.for_view(processor, prompt.view, motion=has_motion(model))
        readable_rows(ingredients, lay_out, encoder.num_frames, output, alike=config.assessor.stage == "pairs")
        lesson = AssessorLoss(Assessor(_prepared(model, config, dimensions), encoder, prompt), config.assessor.stage)
        with track_steps("training the judge") as show:

            def stepped(step: int) -> None:
                show({"step": step, "steps": training.steps})
                if on_step is not None:
                    on_step(step)

            trainer = _trainer(lesson, found[-1], config, training.steps, output, stepped)
            check_batch(trainer, training.items_per_step)
            trainer.train(resume_from_checkpoint=last_checkpoint(output / "checkpoints"))
        return _finished(trainer, lesson, processor, output, counts)


def asked(config: JudgeTrainingConfig, path: str, dimensions: Sequence[str]) -> VideoPrompt:
    """What the judge is asked from then on: as before where it rated in numbers, else as the release asks."""
    own = own_prompts(path, Prompts()).score
    told: dict[str, Any] = {"keys": tuple(dimensions)}
    if own is None or not own.answer:
        # As large as the model's processor says.
        own, told = ASSESSMENT, {**told, "max_pixels": None}
    if config.assessor.question is not None:
        told["question"] = config.assessor.question
    shown = Shown(
        num_frames=config.num_frames, frames=config.frames, max_pixels=config.max_pixels, layout=config.layout
    )
    return shown.of(VideoPrompt(**{**vars(own), **told}))


def _prepared(model: Any, config: JudgeTrainingConfig, dimensions: Sequence[str]) -> Any:
    """``model`` with what the stage trains, which alone has gradients."""
    stage, training = config.assessor.stage, config.training
    model.config.score_dimensions = list(dimensions)
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(config.seed, "lora"))
        if stage == "scores" and not scores_in_numbers(model):
            width = model.config.get_text_config().hidden_size
            put_heads(model, ScoreHeads.new(width, len(dimensions), config.assessor.widths), dimensions)
        if stage == "pairs" and not compares(model):
            put_pairs(model, PairNetworks.new(model, len(dimensions), config.assessor.pair_width))
        model.requires_grad_(False)
        if stage == "scores":
            lora = LoraConfig(
                r=training.lora_rank, lora_alpha=config.assessor.lora_alpha, lora_dropout=config.assessor.dropout,
                target_modules=f"({LANGUAGE}|{VISION})",
            )  # fmt: skip
            model = get_peft_model(model, lora)
    plain = plain_model(model)
    trained = {
        "levels": [plain.model.multi_modal_projector, *([getattr(plain, PROJECTOR)] if has_motion(plain) else [])],
        "scores": [getattr(plain, HEADS, torch.nn.Module())],
        "pairs": [getattr(plain, PAIRS, torch.nn.Module())],
    }[stage]
    for module in trained:
        # What is trained is float32: a step of it is less than bfloat16 has digits for.
        module.float().requires_grad_(True)
    model.to(device())
    if torch.cuda.is_available() and stage != "pairs":
        plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _trainer(
    lesson: AssessorLoss, rows: Lessons, config: JudgeTrainingConfig, steps: int, output: Path,
    on_step: Callable[[int], None],
) -> AssessorTrainer:  # fmt: skip
    training, cuda = config.training, torch.cuda.is_available()
    mine, size = micro_batch(training.items_per_step, training.micro_batch, "items")
    trainer = AssessorTrainer(
        model=lesson,
        args=TrainingArguments(
            output_dir=str(output / "checkpoints"), per_device_train_batch_size=size,
            gradient_accumulation_steps=mine // size, max_steps=steps, learning_rate=training.learning_rate,
            weight_decay=config.assessor.weight_decay, lr_scheduler_type="cosine",
            warmup_steps=math.ceil(config.assessor.warmup * steps), save_strategy="steps",
            save_steps=training.checkpoint_steps, save_total_limit=CHECKPOINTS, logging_steps=1, report_to=[],
            disable_tqdm=True, bf16=cuda, use_cpu=not cuda, remove_unused_columns=False, seed=config.seed % 2**31,
            log_level="error", ddp_find_unused_parameters=False, eval_strategy="steps" if rows.held_out else "no",
            eval_steps=training.checkpoint_steps,
        ),
        train_dataset=[{**row, "seed": seed_for(config.seed, "row", i)} for i, row in enumerate(rows.train)],
        held_out=rows.held_out,
        at_once=size,
        callbacks=[Marks(on_step)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    if rows.held_out:
        trainer.add_callback(StopEarly(trainer, config.assessor.patience))
    return trainer


def _finished(
    trainer: AssessorTrainer, lesson: AssessorLoss, processor: Any, output: Path, counts: dict[str, int]
) -> dict[str, Any]:
    """Write the judge as it was at its best, and the summary."""
    log = trainer.state.log_history
    best = trainer.best(log)
    summary = {
        "steps": trainer.state.global_step, **counts, **rise(log, "loss"), "best": best,
        "validation": {str(row["step"]): row["validation"] for row in log if "validation" in row},
    }  # fmt: skip
    if best is not None:
        best_weights(lesson, trainer.best_file(best))
    told: dict[str, Any] = {}
    if lesson.stage == "scores" and trainer.held_out:
        # As it was validated: a LoRA beside half precision needs it.
        with trainer.compute_loss_context_manager():
            told = calibrate(lesson, trainer.held_out)
    assessor = lesson.assessor
    if trainer.accelerator.is_main_process:
        model: Any = assessor.model
        # Half precision would round away most of what a LoRA learned.
        model.to("cpu", torch.float32)
        model = model.merge_and_unload() if isinstance(model, PeftModel) else model
        if told:
            model.config.score_calibration = told
        with atomic_path(output / "model") as temporary:
            model.save_pretrained(temporary)
            processor.save_pretrained(temporary)
            assessor.prompt.save(temporary, "score")
        write_json(output / "training.json", {**summary, "calibration": told, "log": log})
        for left in ("checkpoints", "best"):
            shutil.rmtree(output / left, ignore_errors=True)
    processes().wait_for_everyone()
    return summary

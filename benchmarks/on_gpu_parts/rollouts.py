"""A GRPO step of the judge, ours and as the papers' code does it; the loss of the same rollouts is compared."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Qwen2VLVideoProcessor

from benchmarks.grpo_step import SHIPPED, Size, make_trainer, timed_step, write_pairs
from benchmarks.on_gpu_parts.answers import judge_of
from benchmarks.on_gpu_parts.reading import JudgeWork
from benchmarks.on_gpu_parts.session import Session
from reward_model.encoding import ShowingEncoder
from reward_model.prompts import JudgePrompt
from videoduet.config import resolve


def grpo(session: Session) -> None:
    """One step both ways, in the precision that training loads its model in: float32 weights under autocast."""
    size = session.size
    shape = Size(size.prompts, size.rollouts, 8, size.rollout_side, size.rollout_tokens)
    model, path = judge_of(session).model.to(torch.float32), resolve(SHIPPED)
    processor = AutoProcessor.from_pretrained(path)
    if session.real:
        processor.video_processor = Qwen2VLVideoProcessor()
    loaded, kept = (model, processor, JudgePrompt.load(path)), {}
    floor = session.attempt("predicted", 2.0, predicted, session, loaded, shape) or (None, "")
    try:
        for way, share, batch in (("ours", True, shape.prompts * shape.group), ("as released", False, shape.group)):
            session.attempt(way, 40.0, _step, session, way, share, batch, loaded, shape, floor, kept)
    finally:
        # Training leaves the model in another precision, and with its hooks.
        session.forget()
    losses = {way: loss for way, loss in kept.items() if way != "rollouts"}
    session.say(f"grpo: the loss of the same rollouts: {losses}")


def _step(
    session: Session, way: str, share: bool, batch: int, loaded: tuple[Any, Any, JudgePrompt], shape: Size,
    floor: tuple[float | None, str], kept: dict[str, Any],
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer: Any
        trainer, rows = make_trainer("7b" if session.real else "toy", shape, Path(folder), share, loaded)
        try:
            timed_step(trainer, rows[: shape.group], shape.group)
            seconds, tokens = timed_step(trainer, rows, batch)
            whole = sum(seconds.values())
            session.record(way, whole, "step", floor, **seconds, tokens_a_second=tokens / whole)
            if "rollouts" not in kept:
                kept["rollouts"] = trainer._generate_and_score_completions(rows)
            with torch.no_grad():
                kept[way] = float(trainer.compute_loss(trainer.model, kept["rollouts"]))
        finally:
            trainer.stop_sharing()
            trainer.accelerator.free_memory()
            trainer.model.unload()


def predicted(session: Session, loaded: tuple[Any, Any, JudgePrompt], shape: Size) -> tuple[float, str]:
    """Seconds of a step that encodes and reads everything once: generation, the reference's log-probabilities, the
    loss, and the gradients of activations, which cost as much again.
    """
    model, processor, prompt = loaded
    prompt = replace(prompt, num_frames=shape.frames)
    encoder = ShowingEncoder.for_view(processor, prompt.view)
    with tempfile.TemporaryDirectory() as folder:
        pairs: list[Any] = list(write_pairs(Path(folder), shape).items)
        showings = [encoder.showing(prompt.messages(pair.prompt, pair.first, pair.second)) for pair in pairs]
    work, rollouts = JudgeWork(model, showings, session.ceilings), len(showings) * shape.group
    scoring = work.scoring(rollouts, shape.tokens)
    stages = {
        "vision": work.vision(shared=True), "prefill": work.reading(len(showings), shared=False),
        "generation": work.generation(rollouts, shape.tokens, rollouts), "reference": scoring,
        "loss and gradient": scoring.times(2.0),
    }  # fmt: skip
    return sum(session.predict(stage, each)[0] or 0.0 for stage, each in stages.items()), "sum of stages"

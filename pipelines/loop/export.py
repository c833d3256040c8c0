"""What a run leaves for others: ``final/generator`` and ``final/judge``, as PEFT directories."""

import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoProcessor

from generators.loading import load_generator, with_adapter
from pipelines.loop.run import Run
from reward_model.judging.loading import base_directory, load_model
from reward_model.prompts import JudgePrompt
from videoduet.config import resolve
from videoduet.store import atomic_path


def export_final(run: Run, *, merge: bool = False) -> None:
    """Write the last adapters to ``final/``; ``merge`` also writes whole models to ``final/merged_*``.

    Where nothing was learned the adapter is one that changes nothing, so that what loads it needs no special case.
    """
    final, rounds, config = run.directory.phase("final"), run.config.rounds, run.config
    run.directory.sweep(final)
    generator, judge = run.generator_adapter(rounds), run.judge_adapter(rounds - 1)
    _copy(
        generator,
        final / "generator",
        lambda: load_generator(resolve(config.generator.path)).denoiser,
        config.generator.path,
    )
    if config.judge.path is not None:
        _copy(judge, final / "judge", lambda: load_model(resolve(config.judge.path)), config.judge.path)
    if not merge:
        return
    path = resolve(config.generator.path)
    with atomic_path(final / "merged_generator") as temporary:
        with_adapter(load_generator(path), generator).pipeline.save_pretrained(temporary)
    if config.judge.path is not None:
        path = resolve(config.judge.path)
        with atomic_path(final / "merged_judge") as temporary:
            load_model(path, judge).save_pretrained(temporary)
            JudgePrompt.load(base_directory(path)).save(temporary)
            AutoProcessor.from_pretrained(base_directory(path)).save_pretrained(temporary)


def _copy(adapter: Path | None, target: Path, load, base: str) -> None:
    with atomic_path(target) as temporary:
        if adapter is not None:
            shutil.copytree(adapter, temporary)
        else:
            torch.manual_seed(0)
            model = get_peft_model(load(), LoraConfig(r=1, target_modules=r".*(q_proj|to_q)"))
            model.peft_config["default"].base_model_name_or_path = resolve(base)
            # "auto" would look for the base model's vocabulary, on the network if need be.
            model.save_pretrained(temporary, save_embedding_layers=False)

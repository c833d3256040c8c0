"""What a run leaves for others: ``final/generator`` and ``final/judge``, as PEFT directories."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model

from generators.loading import load_generator, with_adapter
from pipelines.loop.held_out import version_name
from pipelines.loop.run import Run
from reward_model.judging.build import judge_source
from reward_model.judging.loading import base_directory, load_model, load_processor
from reward_model.prompts import JudgePrompt
from videoduet.config import to_dict
from videoduet.store import atomic_path, write_json

CHOICE = "choice.json"
"""Which version was kept in ``final/``, and why."""


def export_final(run: Run, *, merge: bool = False) -> None:
    """Write the adapters of the generator that the run keeps and of the last judge to ``final/``; ``merge`` also writes
    whole models to ``final/merged_*``.

    Where nothing was learned the adapter is one that changes nothing, so that what loads it needs no special case.
    """
    final, rounds, choice = run.folder("final"), run.rounds, run.chosen()
    judged = run.config.judge
    run.directory.sweep(final)
    kept = rounds if choice is None else choice.number
    generator, judge = run.generator_adapter(kept), run.judge_adapter(rounds - 1)
    if choice is not None:
        reported = run.measured()[kept].reported if kept else {}
        write_json(final / CHOICE, {"version": version_name(kept), **to_dict(choice), "reported": reported})
    _write_adapter(generator, final / "generator", lambda: load_generator(run.base).denoiser, run.base)
    if not merge:
        # What another export merged may be of another version.
        for name in ("merged_generator", "merged_judge"):
            shutil.rmtree(final / name, ignore_errors=True)
    if merge:
        with atomic_path(final / "merged_generator") as temporary:
            with_adapter(load_generator(run.base), generator).pipeline.save_pretrained(temporary)
    if judged.model is not None:
        path, prompt = judge_source(judged.model, judged.preset, judged.subfolder)
        _write_adapter(judge, final / "judge", lambda: load_model(path), path)
        if merge:
            with atomic_path(final / "merged_judge") as temporary:
                write_judge(temporary, path, judge, prompt)


def write_judge(target: Path, path: str, adapter: Path | None, prompt: JudgePrompt) -> None:
    """Write the judge at ``path`` with ``adapter`` in its weights, its processor and what it is asked."""
    load_model(path, adapter).save_pretrained(target)
    prompt.save(target)
    load_processor(base_directory(path)).save_pretrained(target)


def _write_adapter(adapter: Path | None, target: Path, load: Callable[[], torch.nn.Module], base: str) -> None:
    with atomic_path(target) as temporary:
        if adapter is not None:
            shutil.copytree(adapter, temporary)
        else:
            torch.manual_seed(0)
            model = get_peft_model(load(), LoraConfig(r=1, target_modules=r".*(q_proj|to_q)"))
            model.peft_config["default"].base_model_name_or_path = base
            # "auto" would look for the base model's vocabulary, on the network if need be.
            model.save_pretrained(temporary, save_embedding_layers=False)

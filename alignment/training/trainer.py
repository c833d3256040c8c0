"""Diffusion-DPO training of a generator, from stored latents.

The draws come from :mod:`alignment.training.schedule`, their tensors from :mod:`alignment.training.loader`, the
reference's errors from :mod:`alignment.training.reference`, the loss from :mod:`alignment.training.objective`; in
:mod:`alignment.training.run` they meet in optimizer steps. A run that is killed and started again ends with the same
weights, byte for byte, as an undisturbed one.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from alignment.training.config import AlignConfig
from alignment.training.diagnosis import diagnose
from alignment.training.loader import PairLoader
from alignment.training.metrics import bucket_means
from alignment.training.policy import autocasts, make_policy, save_policy
from alignment.training.prompt_embeds import store_prompt_embeds
from alignment.training.room import Recomputed, recomputation
from alignment.training.run import AlignRun
from alignment.training.schedule import pair_id, split_held_out
from alignment.training.tensor_rows import TensorRows
from alignment.training.tracking import Tracker
from alignment.training.usable_pairs import usable_pairs
from generators.base import Generator
from generators.fast import SpeedConfig, speed_up
from videoduet.errors import InputError
from videoduet.records import PreferencePair, Prompt, Sample, stable_id
from videoduet.rewriting import Rewrites
from videoduet.store import content_hash, read_json, write_json

SUMMARY = "summary.json"


def align(
    generator: Generator,
    pairs: Sequence[PreferencePair],
    samples: Mapping[str, Sample],
    prompts: Mapping[str, Prompt],
    *,
    config: AlignConfig,
    seed: int,
    output_dir: Path,
    adapter: Path | None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    base: str | None = None,
    revision: str | None = None,
    events: Path | None = None,
) -> dict[str, Any]:
    """The summary of a training of ``generator`` on ``pairs``, whose policy is written to ``output_dir``.

    ``generator`` comes with its plain base denoiser and leaves without encoders, its denoiser trained: wrapped in the
    LoRA, or itself. ``samples`` (by video id) say where the latents lie; ``prompts`` are by id. ``adapter`` is the
    previous round's, to be continued, or None. ``on_step`` gets each step's metrics once the step is done. ``base`` and
    ``revision`` are what the adapter's config names as its base model. Call it again with the same arguments to resume.
    ``events`` is where the tracker's files go (None: ``output_dir/events``).

    ``output_dir`` gets ``adapter/`` (PEFT; with ``config.parameters`` 'all' it is ``denoiser/``, diffusers),
    ``summary.json``, ``log.jsonl`` (one line per step), ``held_out.jsonl`` and ``reference_errors/``.

    Raises InputError where no pair can be trained on, the adapter does not fit, ``output_dir`` holds another training,
    or too many steps had a non-finite loss or gradient.
    """
    output_dir, rows = Path(output_dir), TensorRows()
    usable, problems = usable_pairs(pairs, samples, prompts, rows)
    if not usable:
        raise InputError(f"No pair can be trained on. {problems[0] if problems else 'The list of pairs is empty.'}")
    trained_on, held_out = split_held_out(usable, config.held_out)
    key = _run_key(usable, config, seed, adapter, base, revision)
    if (done := _finished(output_dir, key)) is not None:
        return done
    # Without cpu=True, accelerate would not join CPU processes into a group.
    state = PartialState(cpu=not torch.accelerator.is_available())
    embeds = _encode_and_forget(generator, usable, prompts, output_dir, state)
    generator.denoiser = make_policy(generator, config, seed, adapter, base, revision)
    loaders = [
        PairLoader(generator, part, samples, embeds, rows, seed=seed, device=state.device, guidance=config.guidance)
        for part in (trained_on, held_out)
    ]
    with _sped_up(generator, loaders[0], config, state):
        run = AlignRun(generator, *loaders, config, seed=seed, key=key, output_dir=output_dir, adapter=adapter)
        tracker = Tracker(config.tracker, events or output_dir / "events", here=state.is_main_process)
        last_step = run.train(tracker, on_step)
        tracker.finish()
    summary = {"key": key, "left_out": problems, "last_step": last_step, **_summary(run)}
    policy = run.parallel.whole_policy()
    if state.is_main_process:
        save_policy(policy, output_dir / ("denoiser" if config.parameters == "all" else "adapter"))
        write_json(output_dir / SUMMARY, summary)
        _clean(output_dir)
    state.wait_for_everyone()
    return read_json(output_dir / SUMMARY)


def _finished(output_dir: Path, key: str) -> dict[str, Any] | None:
    """The summary of this training where it is done already. Raises InputError where another one lies there."""
    if not (output_dir / SUMMARY).exists():
        return None
    summary = read_json(output_dir / SUMMARY)
    if summary["key"] != key:
        raise InputError(f"{output_dir} holds another training's adapter; choose another output directory.")
    _clean(output_dir)
    return summary


def _encode_and_forget(
    generator: Generator,
    pairs: Sequence[PreferencePair],
    prompts: Mapping[str, Prompt],
    output_dir: Path,
    state: PartialState,
) -> dict[str, tuple[Path, int]]:
    """Where the text conditioning of the pairs' prompts lies; the generator is left without encoders."""
    generator.to(str(state.device))
    texts = [prompts[prompt_id] for prompt_id in sorted({pair.prompt_id for pair in pairs})]
    embeds = store_prompt_embeds(generator, texts, output_dir / "prompt_embeds", write=state.is_main_process)
    state.wait_for_everyone()
    generator.free_encoders()
    return embeds


def _sped_up(generator: Generator, loader: PairLoader, config: AlignConfig, state: Any) -> Rewrites:
    """The policy that is ``generator``'s denoiser, faster and in the memory that there is, until it is undone."""
    policy = generator.denoiser
    autocast, half = autocasts(policy, config), config.mixed_precision == "bf16"

    def applied(recomputed: Recomputed) -> Rewrites:
        speed = SpeedConfig(gradient_checkpointing=recomputed, autocast=autocast, lora_in_half=half)
        return speed_up(policy, speed, state.device)

    return applied(recomputation(generator, loader, config, state.device, applied))


def _summary(run: AlignRun) -> dict[str, Any]:
    """What a finished training says of itself."""
    timesteps = run.generator.num_train_timesteps
    summary = {
        "pairs": len(run.data.loader.pairs),
        "held_out_pairs": len(run.curve.data.loader.pairs),
        "steps": len(run.data.steps),
        "skipped_steps": run.progress.skipped,
        "reference": run.config.reference,
        "trainable_parameters": sum(parameter.numel() for parameter in run.parameters.values()),
        "timestep_buckets": bucket_means(run.progress.sums, timesteps),
        "late_timestep_buckets": bucket_means(run.progress.late, timesteps),
        "held_out": next(iter(run.curve.rows()[-1:]), None),
    }
    return {**summary, "notes": diagnose(summary, run.config)}


def _clean(output_dir: Path) -> None:
    """Remove what only an unfinished training needs."""
    for folder in ("checkpoints", "prompt_embeds"):
        shutil.rmtree(output_dir / folder, ignore_errors=True)


def _run_key(
    pairs: Sequence[PreferencePair],
    config: AlignConfig,
    seed: int,
    adapter: Path | None,
    base: str | None,
    revision: str | None,
) -> str:
    """Names everything that the result depends on, so that no cache or checkpoint of another training is ever used."""
    told = {f.name: getattr(config, f.name) for f in fields(config) if f.metadata["role"] == "identity"}
    # Newer than the name: a training that was begun without it goes on.
    identity = [(name, value) for name, value in told.items() if name != "load_in" or value is not None]
    weights = None
    if adapter is not None:
        weights_file = Path(adapter) / "adapter_model.safetensors"
        if not weights_file.is_file():
            raise InputError(f"Adapter {adapter} has no adapter_model.safetensors; give a PEFT adapter directory.")
        weights = content_hash(weights_file)
    return stable_id(
        seed, identity, [(pair_id(pair), pair.margin, pair.score) for pair in pairs], weights, base, revision
    )

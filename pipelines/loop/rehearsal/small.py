"""A run's config at its smallest: two prompts, two videos each, one optimizer step of everything."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pipelines.loop.config import RunConfig
from videoduet.config import resolve
from videoduet.errors import InputError

PROMPTS = 2
STAND_INS = ("a red circle moving left", "a blue square moving up", "a green triangle moving right", "a dog runs")
"""Texts that are drawn where the run's own cannot be read."""


def shrunk(config: RunConfig, folder: Path, train: Sequence[str], held_out: Sequence[str]) -> RunConfig:
    """``config`` for a run in ``folder`` on the first of these prompts, whose files are written there."""
    for name, texts in (("train.txt", train), ("held_out.txt", held_out)):
        (folder / name).write_text("".join(f"{' '.join(text.split())}\n" for text in texts[:PROMPTS]), encoding="utf-8")
    # A whole micro-batch of each process, though there be one pair: memory is that of a micro-batch.
    whole = config.align.micro_batch * processes_of(config.launch.get("align"))
    refresh = config.refresh
    training = replace(refresh.training, steps=1, epochs=None, passes=1, checkpoint_steps=1)
    # As many as fill a step, whose memory is that of all its pairs.
    few = max(PROMPTS, training.pairs_per_step)
    data = {
        "original_data": _few(refresh.original_data, folder / "original_data.jsonl", few),
        "held_out_data": _few(refresh.held_out_data, folder / "held_out_data.jsonl", PROMPTS),
    }
    sets = [replace(each, limit=min(few, each.limit or few)) for each in refresh.data]
    vbench = replace(
        config.score.vbench, dimensions=config.score.vbench.names[:1], rounds=None, prompts_per_dimension=1,
        videos_per_prompt=1, flickering_videos=1,
    )  # fmt: skip
    return replace(
        config,
        run_dir=str(folder / "run"),
        rounds=min(config.rounds, 2),
        prompts=replace(
            config.prompts, train=str(folder / "train.txt"), held_out=str(folder / "held_out.txt"), limit=PROMPTS,
            subset_seed=None, column=None,
        ),
        generator=replace(config.generator, videos_per_prompt=2),
        # Two videos are one comparison, from which the paper's labels count nothing, and of half of two prompts none is
        # left to learn from; the training is the same.
        refresh=replace(refresh, labels="agreed", cross_fit=False, training=training, data=sets, **data),
        audit=replace(config.audit, clips=min(PROMPTS, config.audit.clips)),
        pairs=replace(config.pairs, pairs_per_prompt=1),
        align=replace(
            config.align, epochs=1, noise_epochs=None, draws_per_pair=whole, batch_size=whole,
            max_steps=1, checkpoint_steps=1, held_out=0.0, tracker="none",
        ),
        score=replace(config.score, videos_per_prompt=1, vbench=vbench),
    )  # fmt: skip


def processes_of(launch: str | None) -> int:
    """The processes that an accelerate config starts (1 without one, or where it cannot be read)."""
    try:
        settings: Any = {} if launch is None else yaml.safe_load(Path(resolve(launch)).read_text(encoding="utf-8"))
        return max(1, int(settings.get("num_processes", 1)))
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        return 1


def _few(path: str | None, target: Path, count: int) -> str | None:
    """The first labelled pairs of a file, in a file of their own; as it is where it is missing."""
    if path is None or not (source := Path(resolve(path))).is_file():
        return path
    try:
        rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()[:count]]
        rows = [{**row, **{side: str(source.parent / row[side]) for side in ("first", "second")}} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no labelled pairs ({error}); give JSON Lines of them.") from error
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(target)

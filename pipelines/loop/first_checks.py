"""Mistakes that are cheap to find, found before hours of work."""

import time
from pathlib import Path
from typing import Any

from alignment.training.optimizer import check_optimizer
from alignment.training.tracking import check_tracker
from pipelines.loop.config import RunConfig
from pipelines.loop.directory import RunDirectory
from pipelines.loop.official_prompts import check_suite
from reward_model.presets import preset_named
from videoduet.config import resolve
from videoduet.errors import InputError
from videoduet.machines import Machine
from videoduet.quantized import check as check_bits

PATIENCE = 60.0
"""Seconds that a machine gives the first one to say what the run is now."""
ALIKE = ("rounds", "score.stop")
"""What may change from start to start, but not from machine to machine: it says which phases there are."""


def check_run(config: RunConfig, directory: RunDirectory) -> None:
    """Raises InputError for models and data that are not there, for what this machine cannot do, and for a run that
    would shrink.
    """
    _check_paths(config)
    aligned = [directory.is_done(directory.phase("align", number)) for number in range(config.rounds)]
    if not directory.is_done(directory.phase("score")):
        check_suite(config.score.vbench)
        check_tracker(config.align.tracker)
    if not all(aligned):
        check_optimizer(config.align)
        check_bits(config.align.load_in, "align.load_in")
    if config.rounds > 1 and config.refresh.why_off(config.judge) is None:
        refreshed = [directory.is_done(directory.phase("refresh", number)) for number in range(1, config.rounds)]
        _check_refresh(config, over=all(refreshed))
    kept = (directory.kept() or {}).get("rounds", 0)
    if config.rounds < kept:
        raise InputError(f"{directory.root} has {kept} rounds; give --rounds {kept} or more, or another --run_dir.")


def _check_paths(config: RunConfig) -> None:
    paths = {
        "generator.path": config.generator.path,
        "judge.path": config.judge.path if config.judge.server is None else None,
        "judge.second_path": config.judge.second_path,
        "judge.first_pass": config.judge.first_pass,
        "refresh.original_data": config.refresh.original_data,
        "refresh.held_out_data": config.refresh.held_out_data,
        "refresh.second_path": config.refresh.second_path,
    }
    for name, path in paths.items():
        if path is None or Path(resolve(path)).exists():
            continue
        if not name.endswith(("path", "first_pass")) or path.count("/") != 1 or path.startswith((".", "/")):
            raise InputError(f"{name} {path} does not exist; give one that does, or a model's hub id (owner/name).")


def _check_refresh(config: RunConfig, *, over: bool) -> None:
    """What the refreshes of a run need, where they are not all ``over``."""
    refresh = config.refresh
    if refresh.data:
        from reward_model.training.united import read_own_data

        read_own_data(refresh.data, config.seed, refresh.original_data, refresh.held_out_data)
    if (bits := refresh.training.load_in) is None or over:
        return
    inner = config.judge.subfolder or preset_named(config.judge.preset).subfolder or ""
    if (Path(resolve(config.judge.path or "")) / inner / "adapter_config.json").exists():
        raise InputError(
            f"judge.path {config.judge.path} is an adapter, which cannot be merged into weights in "
            f"refresh.training.load_in {bits}; merge it first (a run does with --merge), or leave load_in out."
        )
    check_bits(bits, "refresh.training.load_in")


def check_alike(config: RunConfig, directory: RunDirectory, machine: Machine, patience: float = 0.0) -> None:
    """Raises InputError on a machine that was given another run than the first one's, which is what ``directory``
    keeps: one that waits for phases that the other will not do waits for ever. The first may have to come yet: what
    differs is looked at again for ``patience`` seconds.
    """
    if machine.first:
        return
    until = time.monotonic() + patience
    while (found := _unlike(config, directory)) is not None and time.monotonic() < until:
        time.sleep(min(1.0, patience / 4))
    if found is not None:
        name, kept, asked = found
        raise InputError(
            f"{directory.root} has {name} = {kept!r}, and machine {machine} was given {asked!r}; give all machines the "
            "same, and start machine 0 first."
        )


def _unlike(config: RunConfig, directory: RunDirectory) -> tuple[str, Any, Any] | None:
    """The first setting that has to be alike and is not: its name, what is kept, what was asked."""
    if (kept := directory.kept()) is None:
        return None
    there = {"rounds": kept.get("rounds", config.rounds), "score.stop": kept.get("score", {}).get("stop", "never")}
    asked = {"rounds": config.rounds, "score.stop": config.score.stop}
    return next(((name, there[name], asked[name]) for name in ALIKE if there[name] != asked[name]), None)

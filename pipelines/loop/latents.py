"""Final latents of a run that are there: those of all videos, or of the pairs alone."""

import gc
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Literal

from generators.base import Generator
from generators.config import Speed
from generators.kept_latents import prune_latents, restore_latents
from videoduet.processes import processes
from videoduet.progress import console
from videoduet.records import PreferencePair, Prompt
from videoduet.store import read_json
from videoduet.workspace import Workspace

Kept = Literal["all", "pairs"]


def latents_of(
    pairs: Sequence[PreferencePair], load_generator: Callable[[], Generator], folder: Path, prompts: Sequence[Prompt],
    directory: Workspace, *, batch_size: int, speed: Speed, kept: Kept,
) -> None:  # fmt: skip
    """See to it that the latents of ``pairs`` are in ``folder``, a phase of sampling, and with ``kept`` 'pairs' no
    others; what was pruned for an earlier ranking is drawn again by ``load_generator``'s.
    """
    if processes().is_main_process:
        wanted = {side for pair in pairs for side in (pair.chosen_id, pair.rejected_id)}
        restored = restore_latents(
            load_generator, folder, wanted, {prompt.id: prompt for prompt in prompts}, root=directory.root,
            batch_size=batch_size, speed=speed,
        )  # fmt: skip
        if restored:
            console.print(f"{restored} latents that had been pruned were drawn again.", markup=False)
            # The generator that drew them makes room for training.
            gc.collect()
        if kept == "pairs":
            _prune(folder, wanted, directory)
    processes().wait_for_everyone()


def no_latents(folder: Path, directory: Workspace, *, kept: Kept) -> None:
    """With ``kept`` 'pairs' remove the latents of videos that are only looked at."""
    if kept == "pairs" and processes().is_main_process:
        _prune(folder, set(), directory)


def _prune(folder: Path, keep: Set[str], directory: Workspace) -> None:
    for inner in sorted({file.parent for file in folder.rglob("samples_*.parquet")}):
        prune_latents(inner, keep, root=directory.root)
    # Its hashes are of what is there.
    directory.finish(folder, **read_json(folder / "done.json")["counts"])

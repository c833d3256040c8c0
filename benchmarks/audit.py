"""Does the audit find what it is there to find? ``python -m benchmarks.audit [--output DIR] [--seeds 20]``.

Judges of shapes world with one known defect each (:mod:`benchmarks.flawed_judges`) and a sound one that errs in one
showing of ten are audited, each seed with clips of its own. Prints how often each defect is found by the probe that
names it, and how often the sound judge fails any. Interrupted, it goes on.
"""

import shutil
import time
from pathlib import Path

from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from rich.table import Table

from benchmarks import flawed_judges
from benchmarks.flawed_judges import FLAWS, Oracle
from reward_model.judging.audit import audit
from shapes_world.audited import audit_clips
from videoduet.progress import console
from videoduet.store import read_json, write_json

SOUND = "sound, one showing in ten wrong"


def measure(seed: int, output: Path, clips: int) -> dict[str, list[str]]:
    """By judge, the probes that it failed with the clips of ``seed``; kept in ``output``."""
    if (kept := output / f"{clips}_{seed}.json").exists():
        return read_json(kept)
    videos, folder = audit_clips(clips, seed), output / f"clips_{seed}"
    failed: dict[str, list[str]] = {}
    for name, kind in {SOUND: Oracle, **{name: kind for name, (kind, _) in FLAWS.items()}}.items():
        judge = kind(seed, 0.1) if name == SOUND else kind(seed)
        failed[name] = audit(judge, videos, clips=clips, seed=seed, folder=folder).named("failed")
    write_json(kept, failed)
    shutil.rmtree(folder)
    for cached in (flawed_judges.frames_of, flawed_judges.scores_of):
        cached.cache_clear()
    return failed


def main(output: str = "runs/audit_benchmark", seeds: int = 20, first: int = 0, clips: int = 32) -> None:
    """Audit them all.

    Args:
        output: Where results are kept.
        seeds: So many.
        first: The first of them.
        clips: Clips of an audit.
    """
    began = time.monotonic()
    found = [measure(seed, Path(output), clips) for seed in range(first, first + seeds)]
    table = Table(
        "judge", "probe that names it", "found in", "other probes failed", title=f"{seeds} seeds, {clips} clips"
    )
    for name, probe in {SOUND: "", **{name: probe for name, (_, probe) in FLAWS.items()}}.items():
        others = {other for each in found for other in each[name]} - {probe}
        counts = [f"{other} {sum(other in each[name] for each in found)}" for other in sorted(others)]
        hits = sum(probe in each[name] if probe else not each[name] for each in found)
        table.add_row(name, probe or "none", f"{hits} of {seeds}", ", ".join(counts))
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    CLI(main, as_positional=False)

"""The card of an audit on the disk, with the videos of the pairs that it shows: the audit's own are thrown away."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reward_model.judging.audit.card import AuditCard


def with_clips(card: AuditCard, folder: Path) -> AuditCard:
    """``card`` with the videos of its cases copied into ``folder``, by their new absolute paths."""
    return moved(card, lambda path: _copied(path, folder))


def moved(card: AuditCard, where: Callable[[str], str]) -> AuditCard:
    """``card`` with ``where(path)`` in place of the path of each video."""
    probes = {
        name: replace(
            probe,
            cases=tuple(replace(one, better=where(one.better), other=where(one.other)) for one in probe.cases),
        )
        for name, probe in card.probes.items()
    }
    return replace(card, probes=probes)


def _copied(video: str, folder: Path) -> str:
    source, target = Path(video), folder / Path(video).name
    if source.is_file() and not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return str(target.absolute()) if target.exists() else video

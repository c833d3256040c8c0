"""The page of a judge's audit: each probe's verdict and figures, with the pairs that the judge got wrong, playing."""

import shutil
from dataclasses import replace
from pathlib import Path

from pipelines.report.html import render
from pipelines.report.previews import preview
from reward_model.judging.audit.card import AuditCard, Probe
from videoduet.store import write_bytes, write_json


def write_card(output: Path, card: AuditCard) -> Path:
    """The path of ``output``/audit.html, written beside card.json and ``clips``, the videos of the cases."""
    card = replace(card, probes={name: _kept(probe, output / "clips") for name, probe in card.probes.items()})
    write_json(output / "card.json", card.to_json())
    write_bytes(output / "audit.html", page(card))
    return output / "audit.html"


def page(card: AuditCard) -> bytes:
    """One HTML page that loads nothing from outside."""
    cases = [case for probe in card.probes.values() for case in probe.cases]
    videos = dict.fromkeys(video for case in cases for video in (case.better, case.other))
    return render("audit.html", card=card, previews={video: preview(video) for video in videos})


def _kept(probe: Probe, folder: Path) -> Probe:
    """``probe`` with the videos of its cases copied into ``folder``: the audit's own are thrown away."""
    cases = [
        replace(case, better=_copied(case.better, folder), other=_copied(case.other, folder)) for case in probe.cases
    ]
    return replace(probe, cases=tuple(cases))


def _copied(video: str, folder: Path) -> str:
    source, target = Path(video), folder / Path(video).name
    if source.is_file() and not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return str(target.absolute()) if target.exists() else video

"""What an audit of a judge found, on a page: each probe's verdict and figures, with the pairs that it got wrong."""

from pathlib import Path
from typing import Any

from pipelines.report.html import render
from pipelines.report.previews import preview
from pipelines.report.recorded import RecordedRun, mapping, number
from pipelines.report.shelf import Shelf
from reward_model.judging.audit.card import AuditCard
from reward_model.judging.audit.kept import with_clips
from videoduet.store import write_bytes, write_json


def write_card(output: Path, card: AuditCard) -> Path:
    """The path of ``output``/audit.html, written beside card.json and ``clips``, the videos of the cases."""
    card = with_clips(card, output / "clips")
    write_json(output / "card.json", card.to_json())
    write_bytes(output / "audit.html", page(card))
    return output / "audit.html"


def page(card: AuditCard) -> bytes:
    """One HTML page that loads nothing from outside."""
    cases = [case for probe in card.probes.values() for case in probe.cases]
    videos = dict.fromkeys(video for case in cases for video in (case.better, case.other))
    return render("audit.html", card=card, previews={video: preview(video) for video in videos})


def audits(run: RecordedRun, shelf: Shelf) -> list[dict[str, Any]]:
    """The cards of a run's judges, oldest first: name, verdict and figures by probe, and pairs that show a failure."""
    found: list[dict[str, Any]] = []
    for item in run.rounds:
        for phase, name in (("refresh", f"D_{item.number}"), ("audit", str(item.phases["audit"].get("judge")))):
            card = mapping(run.read(f"round_{item.number:02d}/{phase}/card.json").get("probes"))
            refused = phase == "refresh" and item.phases["refresh"].get("status") == "kept_previous"
            tried = {str(key): mapping(row) for key, row in card.items() if mapping(row).get("measures")}
            if tried:
                cases = [case for key, row in tried.items() for case in _cases(key, row, name, shelf)]
                probes = {
                    key: {"verdict": str(row.get("verdict")), "figures": _figures(row)} for key, row in tried.items()
                }
                found.append({"judge": f"{name}, refused" if refused else name, "probes": probes, "cases": cases})
    return found


def _figures(probe: dict[str, Any]) -> list[str]:
    """The figures of a probe that have a margin, with their intervals."""
    rows = [row for row in map(mapping, probe.get("measures") or []) if {row.get("least"), row.get("most")} != {None}]
    known = [(row, [number(row.get(key)) for key in ("value", "low", "high")]) for row in rows]
    return [
        f"{str(row.get('name')).replace('_', ' ')} {values[0]:.2f} ({values[1]:.2f} to {values[2]:.2f})"
        for row, values in known
        if None not in values
    ]


def _cases(name: str, probe: dict[str, Any], judge: str, shelf: Shelf) -> list[dict[str, Any]]:
    if probe.get("verdict") != "failed":
        return []
    found: list[dict[str, Any]] = []
    for case in map(mapping, probe.get("cases") or []):
        text = str(case.get("prompt"))
        sides = [(str(case.get(side)), label) for side, label in (("better", "better"), ("other", f"{judge}'s choice"))]
        base, now = (shelf.show(path, text, label, f"{label}: {text}") for path, label in sides)
        found.append({"prompt": f"{name.replace('_', ' ')}: {text}", "base": base, "now": now})
    return found

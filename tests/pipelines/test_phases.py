"""The table of phases: what follows from it, and that nothing of a run is told anywhere else."""

from dataclasses import fields
from pathlib import Path

import pytest
from small_loop import config

from pipelines.loop import phases
from pipelines.loop.config import RunConfig
from pipelines.loop.phases import PHASES, Phase, earliest_phase, needed, phase_of, round_phases, turns
from pipelines.loop.run import Run
from pipelines.loop.summaries import (
    AlignSummary,
    MeasureSummary,
    RankSummary,
    RefreshSummary,
    ScoreSummary,
    read_summary,
)
from videoduet.config import identity_fields


def test_the_turns_of_a_run():
    assert [turn.path for turn in turns(2)] == [
        *(f"round_00/{name}" for name in ("sample", "audit", "rank", "align", "measure")),
        *(f"round_01/{name}" for name in ("sample", "refresh", "audit", "rank", "align", "measure")),
        "score",
    ]


def test_what_a_phase_needs_lies_before_it():
    order = turns(3)
    for place, turn in enumerate(order):
        before = [Path(earlier.path) for earlier in order[:place]]
        assert set(needed(turn, 3)) <= set(before), turn.path
    of = {turn.path: needed(turn, 3) for turn in order}
    assert of["round_00/sample"] == [] and of["round_01/sample"] == [Path("round_00/align")]
    assert of["round_01/refresh"] == [Path("round_01/sample"), Path("round_00/rank"), Path("round_00/audit")]
    assert of["round_00/rank"] == [Path("round_00/sample")] and of["score"] == [Path("round_02/align")]


def test_every_section_of_the_config_belongs_to_a_phase(tmp_path):
    sections = {section.split(".")[0] for phase in PHASES for section in phase.sections}
    identities = {name.split(".")[0] for name in identity_fields(config(tmp_path))}
    assert identities <= sections <= {item.name for item in fields(RunConfig)}
    for phase in PHASES:
        for section in phase.sections:
            assert earliest_phase(section) == phase.name


def test_a_phase_to_come_is_a_row(monkeypatch):
    watch = Phase("watch", "somewhere.watch", needs=("align",), first_round=0, sections=("score",))
    table = (*PHASES[:-1], watch, PHASES[-1])
    monkeypatch.setattr(phases, "PHASES", table)
    assert [turn.path for turn in turns(1)][-2:] == ["round_00/watch", "score"]
    assert [phase.name for phase in round_phases(1)][-1] == "watch" and phase_of("watch") is watch


@pytest.mark.parametrize(
    ("name", "kind", "number"),
    [
        ("refresh", RefreshSummary, 1),
        ("rank", RankSummary, 0),
        ("align", AlignSummary, 1),
        ("measure", MeasureSummary, 1),
        ("score", ScoreSummary, None),
    ],
)
def test_what_a_phase_hands_on_is_read_back_as_its_record(finished, name, kind, number):
    run = Run.open(finished.root)
    summary = read_summary(kind, run.folder(name, number))
    assert isinstance(summary, kind)
    assert name in ("measure", "score") or summary.status in ("off", "ranked", "trained")

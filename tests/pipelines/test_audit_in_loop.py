"""The loop audits its judges: before the first round, and each refreshed one before it is kept."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from small_loop import do
from test_report import text_of

from pipelines.loop import refresh
from pipelines.loop.audit import Audit, lost, verdicts
from pipelines.loop.audit_config import PROBES, LoopAuditConfig
from pipelines.loop.config import parse
from pipelines.loop.directory import RunDirectory
from pipelines.loop.phases import Turn, independent, phase_of, turns
from pipelines.loop.plan import counted, counts
from pipelines.loop.run import Run
from pipelines.loop.summaries import AuditSummary, RefreshFigures, RefreshSummary, read_summary, write_summary
from pipelines.report import write_report
from reward_model.judging.audit.card import AuditCard, Measure, Probe
from videoduet.errors import InputError
from videoduet.store import read_json, write_json

TRAINED = {"steps": 1, "pairs": 1, "reward_first": 0.0, "reward_last": 0.0, "new_pairs": 1, "within_pairs": 0}


class Silent:
    """A judge that says nothing."""

    def compare(self, pairs):
        return iter(())


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """The finished run, whose judge is to be audited on two clips."""
    root = Path(shutil.copytree(finished.root, tmp_path / "run"))
    settings = replace(finished.config, run_dir=str(root), audit=LoopAuditConfig(clips=2))
    return Run(RunDirectory(root), settings)


def card_of(**said: str) -> AuditCard:
    figure = Measure(name="firsts", value=0.9, low=0.8, high=1.0, n=9, most=0.65)
    probes = {
        name: Probe(name=name, changed="it", sound="is", verdict=verdict, measures=(figure,))
        for name, verdict in said.items()
    }
    return AuditCard(probes=probes)


def results(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_first_judge_is_audited_and_one_that_stays_takes_over_its_card(run):
    do(run, "audit", 0)
    folder = run.folder("audit", 0)
    summary = read_summary(AuditSummary, folder)
    assert (summary.status, summary.judge, tuple(summary.verdicts)) == ("audited", "D_0", PROBES)
    card = read_json(folder / "card.json")
    assert card["probes"]["cycles"]["verdict"] == "does_not_apply" and card["videos"] == 2
    shown = [case for probe in card["probes"].values() for case in probe["cases"]]
    assert shown and all((run.directory.root / case[side]).is_file() for case in shown for side in ("better", "other"))
    assert not list(folder.glob(".*")), "what was tried is not kept"
    do(run, "audit", 1)
    later = read_summary(AuditSummary, run.folder("audit", 1))
    assert (later.status, later.judge, later.verdicts) == ("same_judge", "D_0", summary.verdicts)
    assert not (run.folder("audit", 1) / "card.json").exists()
    # Once more, over what a killed one left.
    before, clip = results(folder), next((folder / "clips").iterdir())
    (folder / "done.json").unlink()
    clip.write_bytes(b"cut short")
    do(run, "audit", 0)
    assert results(folder) == before


@pytest.mark.slow
def test_an_audit_that_is_killed_ends_like_an_undisturbed_one(run, tmp_path):
    """Killed as it asks: what it leaves is swept away, and the card is the same to the byte."""
    once, found = tmp_path / "once", []
    judge = replace(run.config.judge, factory="scripted_judges.Killer", arguments={"once": str(once), "after": 9})
    run.directory.adopt(replace(run.config, judge=judge), "made", again=True)
    folder = run.folder("audit", 0)
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    for code in (9, 0, 0):
        ended = subprocess.run(
            [sys.executable, "-m", "pipelines.phase", "audit", "--run_dir", str(run.directory.root)],
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert ended.returncode == code and (folder / "done.json").exists() == (code == 0)
        if code == 0:
            found.append(results(folder))
            shutil.rmtree(folder)
    assert found[0] == found[1] and not [name for name in found[0] if "tmp" in name]


def test_what_a_refresh_found_is_taken_over(run):
    figures = RefreshFigures(
        held_out={}, newer_preferred_rate=None, newer_preferred_n=0, audited={"order": "failed"}, **TRAINED
    )
    write_summary(run.folder("refresh", 1), RefreshSummary(status="accepted", figures=figures))
    do(run, "audit", 1)
    summary = read_summary(AuditSummary, run.folder("audit", 1))
    assert (summary.status, summary.judge, summary.named("failed")) == ("refreshed", "D_1", ["order"])
    text = text_of(write_report(run.directory.root).read_text("utf-8"))
    assert "Round 1: the judge (D_1) failed its audit: order." in text


def test_the_report_shows_the_cards(run):
    do(run, "audit", 0)
    kept = run.folder("audit", 0) / "card.json"
    card = read_json(kept)
    assert "Can the judge be trusted?" in write_report(run.directory.root).read_text("utf-8")
    card["probes"]["sees_time"]["verdict"] = "failed"
    card["probes"]["not_still"] = "damaged"
    write_json(kept, card)
    page = write_report(run.directory.root).read_text("utf-8")
    assert "What D_0 got wrong" in page and "sees time" in page


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [("passed", "failed", 1), ("cannot_tell", "failed", 0), ("failed", "failed", 0), ("passed", "cannot_tell", 0)],
)
def test_a_judge_is_refused_for_what_the_one_before_passed(before, after, reasons):
    found = lost({"order": before}, card_of(order=after))
    assert len(found) == reasons
    if found:
        assert found == ["it fails the audit's order, which the judge before passed: " + str(card_of(order="failed")
                         .probes["order"].worst)]  # fmt: skip


class Refused:
    """A way to audit that finds what it is given."""

    def __init__(self, found: AuditCard | InputError):
        self.found = found

    def card(self, judge, output):
        if isinstance(self.found, InputError):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "known", "expected"),
    [
        (card_of(order="failed", answers="passed"), {"order": "passed"}, ({"order": "failed", "answers": "passed"}, 1)),
        (card_of(order="failed"), {"order": "failed"}, ({"order": "failed"}, 0)),
        (InputError("The judge answered none."), {"order": "passed"}, ({}, 1)),
        (card_of(order="failed"), {}, ({}, 0)),
    ],
)
def test_the_gate_of_a_refresh_audits_the_new_judge(monkeypatch, tmp_path, found, known, expected):
    """Not where the accuracy has fallen already, nor where nothing is known of the judge before."""
    judge = Silent()
    monkeypatch.setattr(refresh, "newer_preferred", lambda *_: (None, 0))
    task = SimpleNamespace(
        audit=Refused(found), passed=AuditSummary(status="audited", judge="D_0", verdicts=known), round_number=1,
        output=tmp_path, config=SimpleNamespace(tolerance_original=0.05), before=lambda: judge, after=lambda _: judge,
        generated=lambda: SimpleNamespace(version_pairs=list),
    )  # fmt: skip
    monkeypatch.setattr(refresh, "_generated_set", lambda *_: [])
    for fallen in ([], ["accuracy fell"]):
        monkeypatch.setattr(refresh, "measured", lambda *_, fallen=fallen: ({}, list(fallen)))
        summary = refresh._gate(task, [], [], TRAINED)
        if fallen:
            assert summary.status == "kept_previous" and summary.figures.audited == {}
        else:
            assert summary.figures.audited == expected[0]
            assert summary.status == ("kept_previous" if expected[1] else "accepted")
            assert expected[1] == (summary.reason is not None)


def test_a_judge_that_answers_nothing_is_no_reason_to_stop(run, monkeypatch):
    monkeypatch.setattr(Run, "judge", lambda *_: Silent())
    do(run, "audit", 0)
    summary = read_summary(AuditSummary, run.folder("audit", 0))
    assert summary.status == "off" and summary.verdicts == {}
    assert summary.reason.startswith("The judge answered none of")
    text = text_of(write_report(run.directory.root).read_text("utf-8"))
    assert "Round 0: the judge was not audited: The judge answered none of" in text


def test_one_video_is_too_few(run):
    samples = run.samples("sample", 0)[:1]
    how = Audit(lambda: samples, run.prompts, 2, 0, run.directory.root)
    with pytest.raises(InputError, match="There is one video only"):
        how.card(Silent(), run.directory.root / "round_00" / "audit")


def test_a_run_from_before_there_were_audits_goes_on_without(run, tmp_path):
    audit, file = Turn(phase_of("audit"), 0), run.directory.root / "config.yaml"
    assert run.audited and not run.leaves_out(audit)
    older = yaml.safe_load(file.read_text())
    del older["audit"]
    file.write_text(yaml.safe_dump(older))
    assert not run.audited and run.leaves_out(audit)
    run.check_turn(Turn(phase_of("refresh"), 1))
    run.directory.adopt_config(replace(run.config, audit=LoopAuditConfig()))
    assert "audit" not in yaml.safe_load(file.read_text()), "and is known for it ever after"


def test_another_judge_is_audited_anew():
    order = {turn.path: turn for turn in turns(2)}
    shared = independent(order["round_00/rank"], 2)
    assert shared == ["round_00/sample"]
    assert "round_00/audit" in independent(order["round_01/rank"], 2)
    kept = independent(order["round_00/audit"], 2)
    assert "round_00/rank" in kept and "round_01/sample" in kept and "round_01/refresh" not in kept


def test_audits_are_planned():
    plain, _ = parse(["--audit.clips", "0"])
    config, _ = parse([])
    none, parts = counted(plain, 64, 32), counted(config, 64, 32)
    assert none["audit rollouts"] == none["refreshed audit rollouts"] == 0
    assert parts["audit rollouts"] == parts["refreshed audit rollouts"] > 16 * 2 * 20
    more = counts(config, 64, 32, 4)["judge rollouts"] - counts(plain, 64, 32, 4)["judge rollouts"]
    assert more == 2 * parts["audit rollouts"]


def test_verdicts_are_of_what_was_tried():
    assert verdicts(card_of(order="passed", cycles="failed")) == {"order": "passed"}

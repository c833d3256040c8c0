"""A run directory that commit 16c8d0d made, before there were schema versions, is read, resumed and reported."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import united_finetune
from pipelines.loop.directory import RunDirectory
from pipelines.loop.run import Run
from pipelines.loop.summaries import AlignSummary, RankSummary, RefreshSummary, ScoreSummary, read_summary
from pipelines.phase import main as phase
from pipelines.report.__main__ import main as report
from videoduet.records import Comparison, PreferencePair, Prompt, Sample
from videoduet.store import read_json, read_records

ROOT = Path(__file__).parent.parent.parent
OLD = ROOT / "tests" / "fixtures" / "run_16c8d0d"
REDONE = ("round_01/rank", "round_01/align", "score", "final")
LOSS = 0.6892846822738647
"""What that commit's own code comes to where it goes on with this run on the base that ships now, which is not the one
that the run was made with.
"""


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    # Its config names models and prompts as they lie in the checkout.
    monkeypatch.chdir(ROOT)
    return Path(shutil.copytree(OLD, tmp_path / "run"))


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> Iterator[Path]:
    """The run with its last phases taken away, gone on with."""
    run = Path(shutil.copytree(OLD, tmp_path_factory.mktemp("old") / "run"))
    for name in REDONE:
        shutil.rmtree(run / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        united_finetune.main(["--config", str(run / "config.yaml"), "--run_dir", str(run)])
        yield run


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def test_records_are_read(copy):
    kinds = {"samples": Sample, "comparisons": Comparison, "pairs": PreferencePair, "prompts": Prompt}
    files = [path for path in sorted(copy.rglob("*.parquet")) if path.stem.split("_")[0] in kinds]
    assert len(files) == 17
    for path in files:
        records = read_records(kinds[path.stem.split("_")[0]], path, root=copy)
        assert len(records) == len(rows(path))
        assert all(
            Path(r.video_path).is_file() and Path(r.latents_path).is_file() for r in records if type(r) is Sample
        )


def test_it_is_opened_and_what_it_concluded_is_known(copy):
    run = Run.open(copy)
    assert isinstance(run.directory, RunDirectory) and run.config.rounds == 2
    assert run.directory.changed(run.config) == {}
    assert read_summary(RefreshSummary, copy / "round_01" / "refresh").status == "accepted"
    assert read_summary(RankSummary, copy / "round_01" / "rank").pairs == 2
    assert read_summary(AlignSummary, copy / "round_01" / "align").figures["key"] == "e9320d1e80e78a39"
    assert read_summary(ScoreSummary, copy / "score").versions == ["G_0", "G_1", "G_2"]


def test_it_is_reported(copy):
    before = contents(copy)
    report([str(copy)])
    page = (copy / "report.html").read_text(encoding="utf-8")
    assert "G_2" in page and "not finished" not in page
    assert before == {name: data for name, data in contents(copy).items() if name != "report.html"}


def test_a_finished_run_is_left_as_it_is(copy):
    before = contents(copy)
    united_finetune.main(["--config", str(copy / "config.yaml"), "--run_dir", str(copy)])
    after = contents(copy)
    # What tells of the run is written anew: the report, and the cards in place of PEFT's templates.
    told = {"report.html", "config.yaml", "final/generator/README.md", "final/judge/README.md"}
    assert {name for name in after if after[name] != before.get(name)} <= told
    assert before.keys() <= after.keys()


def test_finished_phases_are_not_touched(resumed):
    kept = {name: data for name, data in contents(OLD).items() if not name.startswith(REDONE)}
    after = contents(resumed)
    assert {name for name, data in kept.items() if after[name] != data} <= {"config.yaml"}


def test_the_rest_is_done_as_it_was_then(resumed):
    """In what does not depend on the number of threads or on where the checkout lies."""
    for name in ("round_01/rank", "round_01/align", "score"):
        assert read_json(resumed / name / "done.json")["counts"] == read_json(OLD / name / "done.json")["counts"]
    assert read_json(resumed / "round_01/rank/summary.json") == read_json(OLD / "round_01/rank/summary.json")
    for name in ("comparisons_00000", "pairs"):
        assert rows(resumed / "round_01" / "rank" / f"{name}.parquet") == rows(OLD / f"round_01/rank/{name}.parquet")
    now, then = (read_summary(AlignSummary, root / "round_01" / "align") for root in (resumed, OLD))
    assert now.status == then.status == "trained" and now.figures.keys() == then.figures.keys()
    for name in ("left_out", "pairs", "held_out_pairs", "steps", "skipped_steps", "reference", "trainable_parameters"):
        assert now.figures[name] == then.figures[name]
    assert now.figures["loss"] == pytest.approx(LOSS, rel=1e-4)
    for version in (0, 1, 2):
        name = f"samples_G_{version}_00000.parquet"
        kept = ("prompt_id", "index", "seed", "generator", "round", "settings", "video_path")
        drawn = [[{key: row[key] for key in kept} for row in rows(root / "score" / name)] for root in (resumed, OLD)]
        assert drawn[0] == drawn[1]


def test_it_ends_as_any_run(resumed):
    ended = {name for name in contents(resumed) if "reference_errors" not in name}
    assert {name for name in contents(OLD) if "reference_errors" not in name} <= ended
    score, then = (read_summary(ScoreSummary, root / "score") for root in (resumed, OLD))
    assert score.versions == then.versions and score.vbench == then.vbench
    assert {judge: rates.keys() for judge, rates in score.win_rate.items()} == {
        judge: rates.keys() for judge, rates in then.win_rate.items()
    }
    assert "report.html" in ended


@pytest.mark.parametrize("name", ["round_01/rank/pairs.parquet", "round_01/rank/summary.json", "prompts.parquet"])
@pytest.mark.parametrize("content", [b"PAR1 cut", b"null", b""], ids=["cut", "null", "empty"])
def test_a_damaged_file_of_a_run_is_named(copy, capsys, name, content):
    (copy / name).write_bytes(content)
    shutil.rmtree(copy / "round_01" / "align")
    with pytest.raises(SystemExit) as ended:
        phase(["align", "--run_dir", str(copy), "--round", "1"])
    said = capsys.readouterr().err
    assert ended.value.code == 1 and str(copy / name) in said.replace("\n", "") and "Traceback" not in said

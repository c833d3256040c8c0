"""What else changed in the videos is measured after each round, and the report tells it."""

import shutil
from pathlib import Path

from evaluation.drift import MEASURES
from pipelines.loop.summaries import MeasureSummary, read_summary
from pipelines.report import write_report
from videoduet.store import read_json, write_json


def test_a_round_says_what_else_changed(finished):
    for number in (0, 1):
        found = read_summary(MeasureSummary, finished.root / f"round_{number:02d}" / "measure").drift
        assert set(MEASURES) <= {change["name"] for change in found["changes"]}
        for change in found["changes"]:
            for moved in change["moved"]:
                assert not Path(moved["base"]).is_absolute()
                assert (finished.root / moved["base"]).is_file() and (finished.root / moved["current"]).is_file()


def test_the_report_plays_what_raised_an_alarm(finished, tmp_path):
    root = Path(shutil.copytree(finished.root, tmp_path / "run"))
    kept = root / "round_00" / "measure" / "summary.json"
    summary = read_json(kept)
    first = summary["drift"]["changes"][0]
    first["alarm"], summary["drift"]["alarms"] = True, ["The videos' saturation moved <far>."]
    write_json(kept, summary)
    page = write_report(root).read_text()
    assert "Round 0: The videos&#39; saturation moved &lt;far&gt;." in page
    assert "What else changed in the videos" in page and "Videos that moved most in G_1" in page
    assert f"{first['name']}: " in page

"""The loop with a judge whose model runs elsewhere: it labels and measures, and is not refreshed."""

import sys
from pathlib import Path

import pytest
from small_loop import before_judging, command, recipe, samples_of

from pipelines.loop.config import JudgeConfig
from videoduet.errors import InputError
from videoduet.records import PreferencePair
from videoduet.store import read_json, read_records
from videoduet.video import read_video

sys.path.append(str(Path(__file__).parent.parent / "reward_model"))
from stub_server import serving


def test_the_loop_runs_with_a_judge_behind_a_server(finished, tmp_path, no_report):
    run = before_judging(finished.root, tmp_path)
    with serving() as server:
        judge = {"factory": None, "path": "stub", "backend": "server", "cache": str(tmp_path / "cache")}
        judge["server"] = f"http://127.0.0.1:{server.server_port}/v1"
        assert command("--config", recipe(tmp_path, judge=judge)) == 0
    assert {body["model"] for body in server.bodies} == {"stub"}
    light = {sample.id: read_video(sample.video_path).frames.mean() for sample in samples_of(run, "sample", 0)}
    pairs = read_records(PreferencePair, run / "round_00" / "rank" / "pairs.parquet")
    assert len(pairs) == 4 and all(light[pair.chosen_id] > light[pair.rejected_id] for pair in pairs)
    refreshed = read_json(run / "round_01" / "refresh" / "summary.json")
    assert refreshed["status"] == "off" and "backend server" in refreshed["reason"]
    assert set(read_json(run / "score" / "summary.json")["win_rate"]) == {"judge"}
    assert (run / "final" / "generator").exists() and not (run / "final" / "judge").exists()

    # What was answered is kept: the same questions need no server.
    asked = len(server.bodies)
    for part in ("rank/done.json", "rank/comparisons_00000.parquet"):
        (run / "round_01" / part).unlink()
    assert command("--config", recipe(tmp_path, judge=judge)) == 0
    assert len(server.bodies) == asked


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path": "x", "backend": "server"}, "server's URL belong together"),
        ({"server": "http://localhost:1/v1"}, "what the server calls its model"),
        ({"path": "x", "backend": "server", "server": "localhost"}, "is no URL"),
        ({"path": "x", "preset": "vqinsite"}, "no preset vqinsite"),
    ],
)
def test_a_backend_that_does_not_fit_is_wrong_usage(settings, words):
    with pytest.raises(InputError, match=words) as refused:
        JudgeConfig(**settings)
    assert refused.value.exit_code == 2

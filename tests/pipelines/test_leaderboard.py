"""Leaderboards: what is read, how generators stand with which intervals, the command and its page."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import leaderboard as command
from reward_model.judging import batch
from reward_model.measuring.board_videos import BoardVideo, KnownPrompt, board_videos, read_known_prompts
from reward_model.measuring.leaderboard import compared_table, estimates, leaderboard, score_tables, win_table
from videoduet.errors import InputError
from videoduet.records import Comparison, DimensionScore, OrderVerdict, VideoScore
from videoduet.video import write_video

FETV = {
    "prompt": "two cats jump", "major content": {"spatial": ["animals"], "temporal": ["actions", "kinetic motions"]},
    "attribute control": {"spatial": ["quantity"], "temporal": None}, "prompt complexity": ["simple"],
}  # fmt: skip


def test_prompts_of_fetv_and_of_ones_own(tmp_path):
    (tmp_path / "fetv_data.json").write_text(json.dumps(FETV) + "\n" + json.dumps({"prompt": "a hill"}) + "\n")
    found = read_known_prompts(tmp_path / "fetv_data.json")
    assert found["0"].categories == {
        "spatial content": ("animals",), "temporal content": ("actions", "kinetic motions"), "attribute": ("quantity",),
        "complexity": ("simple",),
    }  # fmt: skip
    assert found["1"] == KnownPrompt("a hill", {})
    (tmp_path / "own.csv").write_text("name,prompt,spatial,complexity\ncat.mp4,a cat,animals; plants,simple\n")
    own = read_known_prompts(tmp_path / "own.csv")["cat"]
    assert own.categories == {"spatial content": ("animals", "plants"), "complexity": ("simple",)}
    for content, says in (("name\ncat\n", "row 1: there is no prompt"), ("", "holds no prompts")):
        (tmp_path / "bad.csv").write_text(content)
        with pytest.raises(InputError, match=says):
            read_known_prompts(tmp_path / "bad.csv")


def test_prompts_are_called_like_their_videos(tmp_path):
    rows = [{"name": "a/cat.MOV", "prompt": "a cat"}, {"name": "b/cat.webm", "prompt": "a cat"},
            {"name": "v1.5", "prompt": "a dog"}, {"video": 0, "prompt": "a hill"}]  # fmt: skip
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {name: known.text for name, known in read_known_prompts(tmp_path / "own.jsonl").items()} == {
        "cat": "a cat", "v1.5": "a dog", "0": "a hill",
    }  # fmt: skip
    (tmp_path / "own.csv").write_text("name,prompt\ncat.mp4,a cat\ncat.gif,another cat\n")
    with pytest.raises(InputError, match="row 2: cat is the name of another prompt too"):
        read_known_prompts(tmp_path / "own.csv")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_videos_find_their_prompts(tmp_path):
    touch(tmp_path / "in", "a/videos/cat.mp4", "a/cat-1.mp4", "a/dog.mp4", "b/cat_0.gif", "b/notes.txt", ".git/x.mp4")
    (tmp_path / "own.csv").write_text("name,prompt\ncat,a cat\n")
    videos, unknown = board_videos(tmp_path / "in", tmp_path / "own.csv")
    assert [(video.model, video.name, video.prompt.text) for video in videos] == [
        ("a", "cat", "a cat"), ("a", "cat", "a cat"), ("b", "cat", "a cat"),
    ]  # fmt: skip
    assert [Path(path).name for path in unknown] == ["dog.mp4"]
    videos, _ = board_videos(tmp_path / "in", None)
    assert {video.prompt.text for video in videos} == {"cat", "dog"}
    for folder, says in ((tmp_path / "in" / "a", "fewer than two generators"), (tmp_path / "no", "does not exist")):
        with pytest.raises(InputError, match=says):
            board_videos(folder, None)


def made(models: str, prompts: int) -> list[BoardVideo]:
    known = [KnownPrompt(f"prompt {p}", {"complexity": ("simple" if p % 2 else "complex",)}) for p in range(prompts)]
    return [BoardVideo(m, f"{m}/{p}.mp4", str(p), known[p]) for m in models for p in range(prompts)]


def test_win_rates_by_hand():
    table = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, np.nan], [np.nan, 1.0, np.nan]])
    np.testing.assert_array_equal(win_table(table), [[0, 0.5, 1], [0.5, 0.5, np.nan], [np.nan, np.nan, np.nan]])
    one, other, last = estimates(win_table(table))
    assert (one["value"], other["value"], last["value"], last["prompts"]) == (0.25, 0.5, 1.0, 1)
    assert 0 <= one["low"] <= 0.25 <= one["high"] <= 0.5


def test_intervals_come_from_prompts():
    rng = np.random.default_rng(0)
    table = np.stack([rng.normal(60, 10, 200), rng.normal(50, 10, 200)], axis=1)
    first, second = estimates(table)
    assert first["low"] > second["high"] and (first["high"] - first["low"]) == pytest.approx(
        2 * 1.96 * table[:, 0].std() / 200**0.5, rel=0.15
    )
    assert estimates(table) == estimates(table) != estimates(table, seed=1)


def test_a_board_from_scores_and_from_comparisons():
    videos = made("abc", 6)
    scores = {v.path: {"static": {"a": 1.0, "b": 3.0, "c": 2.0}[v.model], "temporal": 5.0} for v in videos}
    tables = score_tables(videos, scores)
    assert list(tables) == ["static", "temporal", "overall"] and tables["overall"][0].tolist() == [3.0, 4.0, 3.5]
    board = leaderboard(videos, tables, {name: win_table(table) for name, table in tables.items()})
    assert board["models"] == ["b", "c", "a"] and board["summary"] == "overall"
    assert board["dimensions"]["static"]["b"]["win_rate"]["value"] == 1
    assert board["dimensions"]["temporal"]["a"]["win_rate"]["value"] == 0.5
    assert board["categories"]["complexity"]["simple"]["prompts"] == 3
    rows = [{"first": "a/0.mp4", "second": "b/0.mp4", "preferred": "second", "status": "decided"},
            {"first": "a/0.mp4", "second": "c/0.mp4", "preferred": None, "status": "tie"},
            {"first": "a/1.mp4", "second": "b/1.mp4", "preferred": None, "status": "unparsable"}]  # fmt: skip
    table = compared_table(videos, rows)
    assert table[0].tolist() == [0.25, 1.0, 0.5] and np.isnan(table[1:]).all()


class Stub:
    """Likes later generators better, in both dimensions; its scores of 'c' cannot be read."""

    judge_id = "stub"
    prompts = SimpleNamespace(score=None, compare=None)

    def score(self, videos, *, failures):
        for video, prompt in videos:
            place = "abc".index(Path(video.path).parent.name)
            told = (
                () if place == 2 else tuple(DimensionScore(name=n, value=place + 1.0) for n in ("static", "temporal"))
            )
            yield VideoScore(
                video_id=video.id, prompt_id=prompt.id, judge_id="stub", text="", score=place + 1.0 if told else None,
                dimensions=told,
            )  # fmt: skip

    def compare(self, pairs, *, failures):
        for pair in pairs:
            yield Comparison.of(pair, "stub", OrderVerdict(text="", verdict="second"),
                                OrderVerdict(text="", verdict="first"), 0.1)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(batch, "load_judge", lambda config: Stub())
    for number, model in enumerate("abc"):
        (tmp_path / "in" / model).mkdir(parents=True)
        for prompt in range(2):
            frames = np.full((2, 16, 16, 3), 40 * number + 100 * prompt, np.uint8)
            write_video(tmp_path / "in" / model / f"{prompt}.mp4", frames, 8)
    (tmp_path / "in" / "a" / "7.mp4").touch()
    (tmp_path / "prompts.jsonl").write_text(json.dumps(FETV) + "\n" + json.dumps({"prompt": "a <b> hill"}) + "\n")
    return tmp_path


def test_the_command_scores(folder, capsys):
    line = [str(folder / "in"), "--prompts", str(folder / "prompts.jsonl"), "--output", str(folder / "out")]
    command.main([*line, "--resamples", "20"])
    shown = capsys.readouterr().err
    assert "win rate by complexity" in shown and "1 have no prompt that is known" in " ".join(shown.split())
    result = json.loads((folder / "out" / "leaderboard.json").read_text())
    assert result["models"] == ["b", "a", "c"] and list(result["dimensions"]) == ["static", "temporal", "overall"]
    assert result["dimensions"]["static"]["b"]["score"]["value"] == 2.0
    assert result["dimensions"]["static"]["c"]["win_rate"]["value"] is None
    page = (folder / "out" / "leaderboard.html").read_text()
    assert page.count("data:image/webp") == 6 and "b stands first" in page and "a &lt;b&gt; hill" in page
    assert page.count("<svg") >= 4 and "7.mp4: no prompt is known" in page


def test_the_command_compares(folder, capsys):
    command.main([str(folder / "in"), "--ask", "compare", "--report", str(folder / "page.html")])
    assert "overall, by" in capsys.readouterr().err
    page = (folder / "page.html").read_text()
    assert "c stands first" in page and "found worse" in page


def test_other_judges_stand_beside(folder, capsys):
    """AIGV-Assessor's figure 6: one chart a dimension that both know."""
    for out in ("people", "out"):
        more = ["--beside", f"[{folder / 'people' / 'leaderboard.json'}]"] if out == "out" else []
        command.main([str(folder / "in"), "--output", str(folder / out), "--resamples", "9", *more])
    told = json.loads((folder / "out" / "leaderboard.json").read_text())["beside"]
    assert len(told) == 1 and told[0]["win_rates"]["static"]["b"]["value"] == 1.0 and "c" not in told[0]["win_rates"]
    pages = [(folder / out / "leaderboard.html").read_text() for out in ("people", "out")]
    assert [page.count(", by judge") > 0 for page in pages] == [False, True]
    (folder / "people" / "leaderboard.json").write_text("{}")
    with pytest.raises(SystemExit):
        command.main([str(folder / "in"), "--beside", f"[{folder / 'people' / 'leaderboard.json'}]"])
    assert "give a leaderboard.json" in " ".join(capsys.readouterr().err.split())


def test_wrong_usage_is_told(folder):
    for line in ([str(folder / "in"), "--batch", "x.csv"], [str(folder / "in"), "--resamples", "0"], []):
        with pytest.raises(SystemExit) as ended:
            command.main(line)
        assert ended.value.code == 2

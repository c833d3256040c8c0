"""``pipelines.sample --best_of N``: a judge picks one video of each prompt."""

import csv
from pathlib import Path

import pytest
from scripted_judges import Brightest

from pipelines.loop import best_of
from pipelines.sample import main
from videoduet.store import read_json
from videoduet.video import read_video

TEXTS = [f"a {colour} circle moving left fast on a teal background" for colour in ("red", "green")]


@pytest.fixture
def command(tmp_path, shipped_generator, monkeypatch):
    """The command with ``arguments``: its exit code."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    (tmp_path / "prompts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "options.yaml").write_text("sampler: {steps: 1, num_frames: 2}\n")
    given = ["--generator", shipped_generator, "--prompts", tmp_path / "prompts.txt", "--output", tmp_path / "out"]

    def run(*arguments: str) -> int:
        try:
            main([str(each) for each in ("--config", tmp_path / "options.yaml", *given, *arguments)])
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


def test_the_best_of_each_prompt_is_picked_once(command, tmp_path, capsys):
    asked = ("--best_of", "4", "--factory", "scripted_judges.Brightest")
    assert command(*asked) == 0
    assert "The best of 4 for 2 prompts are in" in " ".join(capsys.readouterr().err.split())
    best = tmp_path / "out" / "best"
    with (best / "videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == TEXTS and {float(row["won"]) for row in rows} == {1.0}
    light = {path.name: read_video(path).frames.mean() for path in (tmp_path / "out" / "videos").glob("*.mp4")}
    assert len(light) == 8
    for row in rows:
        of_prompt = [value for name, value in light.items() if name.rsplit("_", 1)[0] == row["video"].rsplit("_", 1)[0]]
        assert len(of_prompt) == 4 and light[row["video"]] == max(of_prompt)
        assert (best / row["video"]).read_bytes() == (tmp_path / "out" / "videos" / row["video"]).read_bytes()
    (written,) = {(best / "videos.csv").stat().st_mtime_ns}
    assert command(*asked) == 0 and (best / "videos.csv").stat().st_mtime_ns == written
    assert 4 <= read_json(best / "done.json")["counts"]["comparisons"] / 2 <= 6, "no more than all pairs"
    assert command("--best_of", "4", "--factory", "scripted_judges.AlwaysFirst") == 1
    assert "factory" in " ".join(capsys.readouterr().err.split())


def test_what_was_judged_before_a_stop_is_not_asked_again(command, tmp_path, monkeypatch, capsys):
    asked = ("--best_of", "3", "--factory", "scripted_judges.Brightest")
    monkeypatch.setattr(best_of, "PROMPTS_AT_ONCE", 1)
    compare, calls = Brightest.compare, list[str]()

    def stopping(self, pairs):
        for pair in pairs:
            calls.append(pair.prompt.text)
            if len(set(calls)) > 1 and not stopping.again:
                raise KeyboardInterrupt
            yield from compare(self, [pair])

    stopping.again = False
    monkeypatch.setattr(Brightest, "compare", stopping)
    assert command(*asked) == 130
    assert len(list((tmp_path / "out" / "best").glob("comparisons_*.parquet"))) == 1
    before, stopping.again = set(calls[:-1]), True
    calls.clear()
    assert command(*asked) == 0
    assert calls and not before & set(calls)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--best_of", "0"), "best_of is 0; give 1 or more"),
        (("--judge", "somebody"), "nothing to pick from; give --best_of 2 or more"),
        (("--best_of", "4", "--videos_per_prompt", "3"), "Give --best_of or --videos_per_prompt, not both"),
        (("--best_of", "4", "--backend", "server"), "belong together"),
    ],
)
def test_wrong_usage(command, arguments, told, capsys):
    assert command(*arguments) == 2
    assert told in " ".join(capsys.readouterr().err.split())

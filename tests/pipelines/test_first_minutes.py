"""The first minutes: what a run says before it begins and when it is done, and what the shell knows of the commands."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.loop import told
from pipelines.loop.config import parse


def test_the_default_run_says_how_long_it_takes():
    said = told.beginning(replace(parse([])[0], run_dir="runs/mine"))
    assert said.startswith("2 rounds over ") and f"takes {told.DEFAULT_TIME}" in said
    assert "runs/mine/report.html" in said and "Ctrl-C" in said
    assert "--plan says what that takes" in told.beginning(parse(["--rounds", "1", "--generator.batch_size", "2"])[0])


def test_three_things_to_do_next(judged_run):
    look, ask, take = told.next_steps(judged_run)
    assert f"{judged_run}/report.html" in look and f"{judged_run}/final/generator" in take
    videos = [part for part in ask.split() if part.endswith(".mp4")]
    assert len(set(videos)) == 2 and f"--judge {judged_run}/final/judge" in ask
    base, last = (Path(video).name for video in videos)
    assert (base[:4], last[:4], base[4:]) == ("G_0_", "G_2_", last[4:]) and " --prompt " in ask


def test_a_run_tells_both(tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace

    from pipelines import united_finetune
    from videoduet.machines import ALONE

    finished = SimpleNamespace(machine=ALONE)
    monkeypatch.setattr(united_finetune, "run_loop", lambda *_, **__: finished)
    united_finetune.main(["--run_dir", str(tmp_path / "run")])
    assert "videos to draw" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    united_finetune.main(["--run_dir", str(tmp_path / "run")])
    assert "videos to draw" not in capsys.readouterr().err


def completed(line: str, tmp_path) -> list[str]:
    """What a shell is told about ``line``."""
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    asked = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "pipelines.cli"], env={**os.environ, **asked}, check=True, timeout=60)
    return [word.strip() for word in answer.read_text().split("\n")]


def test_the_shell_completes_commands(tmp_path):
    assert completed("videoduet push", tmp_path) == ["push_to_hub"]
    assert set(completed("videoduet ", tmp_path)) >= {*cli.COMMANDS}


def test_the_shell_completes_options_of_a_command(tmp_path):
    assert completed("videoduet push_to_hub --repo", tmp_path) == ["--repository"]


def test_what_makes_a_shell_complete(capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        monkeypatch.setattr(cli, "find_spec", lambda _: None)
        cli.main(["--completion", "bash"])
    assert stop.value.code == 2 and 'pip install "videoduet[completion]"' in capsys.readouterr().err
    pytest.importorskip("argcomplete")
    monkeypatch.undo()
    with pytest.raises(SystemExit):
        cli.main(["--completion", "nushell"])
    capsys.readouterr()
    cli.main(["--completion", "bash"])
    assert "complete " in capsys.readouterr().out

"""docs/judge.md does what it says: its commands and its code are taken from the page and run."""

import itertools
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.judge import main
from reward_model import PRESETS
from reward_model.judging import batch as judging
from reward_model.judging.base import Answer, VideoJudge
from reward_model.judging.config import JudgingConfig
from reward_model.questions import Question
from shapes_world.world import Scene, render
from videoduet.video import write_video

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "judge.md").read_text()
BASH = "\n".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)).replace("\\\n", "")
COMMANDS = [line.partition("pipelines.judge ")[2] for line in BASH.splitlines() if "-m pipelines.judge" in line]


class Scripted(VideoJudge):
    """Names the first video, gives a score, and says what it is asked."""

    def __init__(self):
        super().__init__(PRESETS["general"].prompts, judge_id="scripted")

    def answer(self, questions: Iterator[Question]) -> Iterator[Answer]:
        yield from itertools.repeat(Answer("<think>hm</think><answer>1</answer>"), sum(1 for _ in questions))


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """Somebody with two videos, a folder and a list of pairs."""
    for name, colour in (("A", "red"), ("B", "green"), ("videos/a", "red"), ("videos/b", "blue")):
        write_video(tmp_path / f"{name}.mp4", render(Scene(colour, "circle", "left", "fast", "black").prompt, 0), 8)
    (tmp_path / "FOLDER").symlink_to(tmp_path / "videos")
    (tmp_path / "pairs.csv").write_text("first,second,prompt\nA.mp4,B.mp4,a cat\n")
    (tmp_path / "shapes_world" / "models").mkdir(parents=True)
    (tmp_path / "shapes_world" / "models" / "judge").symlink_to(ROOT / "shapes_world" / "models" / "judge")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_all_commands():
    assert {command.split()[0] for command in COMMANDS} == {"compare", "rank", "score", "describe"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page(newcomer, monkeypatch, capsys, command):
    """With a judge that answers at once in place of one that has to be fetched or that a server runs."""
    asked = []

    def load(config: JudgingConfig) -> Scripted:
        asked.append(config)
        return Scripted()

    monkeypatch.setattr(judging, "load_judge", load)
    arguments = shlex.split(command.partition(">")[0], comments=True)
    monkeypatch.setattr(sys, "argv", ["judge", *arguments])
    main()
    assert len(asked) == 1 and capsys.readouterr().out
    assert all(getattr(asked[0], name) for name in re.findall(r"--([a-z]+)", command) if hasattr(asked[0], name))
    assert not asked[0].report or "data:image/webp" in Path(asked[0].report).read_text()
    if "> verdicts.csv" in command:
        monkeypatch.setattr(sys, "argv", ["judge", *arguments[:-1], "--json"])
        main()
        assert len(asked) == 1, "the second time all answers are there"
        assert len(json.loads(capsys.readouterr().out)["comparisons"]) == 1


def test_the_code_of_the_page(newcomer, capsys):
    """With the tiny judge itself."""
    exec(*re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL), {})
    out = capsys.readouterr().out
    assert "<think>" in out and "red circle" in out

"""Every kind of file that commands take, cut short, swapped and mistyped: each ends in one sentence or is read.

Seeded, so that a failure can be looked at again: the name of a test says kind and number.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from damaged_files import DATA_SETS, KINDS, RECIPE, damaged, video, wholes

from reward_model.datasets import read_dataset
from videoduet.commands import guarded

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "reward_model"))
from miniature import write_miniature  # noqa: E402

EACH = 24
"""Damaged files of each kind."""


def wrong(read: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str | None:
    """How ``read`` ends, unless it reads, or a command that reads so ends in one sentence."""
    try:
        guarded(read, "the same command")
    except SystemExit as ended:
        said = capsys.readouterr().err.strip()
        well = ended.code in (1, 2) and "error: " in said and "Traceback" not in said and "\x1b[" not in said
        return None if well else f"exit code {ended.code}: {said}"
    return None


@pytest.mark.parametrize("number", range(EACH))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_ends_in_one_sentence(kind, number, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng([number, *kind.name.encode()])
    others = [content for name, content in wholes().items() if name != kind.name]
    path = tmp_path / kind.name
    kind.write(path)
    path.write_bytes(damaged(wholes()[kind.name], rng, others))
    assert wrong(lambda: kind.read(path), capsys) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_whole_file_is_read(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4"):
        video(tmp_path / name)
    kind.write(tmp_path / kind.name)
    assert kind.read(tmp_path / kind.name) is not None


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_with_a_damaged_file_ends_in_one_sentence(name, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    video(clip)
    write_miniature(name, tmp_path / "set", [clip])
    tables = [path for path in sorted((tmp_path / "set").rglob("*")) if path.is_file() and path.suffix != ".mp4"]
    rng = np.random.default_rng([*name.encode()])
    for number in range(EACH):
        path = tables[number % len(tables)]
        content = path.read_bytes()
        path.write_bytes(damaged(content, rng, [b"[]", b"{}", yaml.safe_dump(RECIPE).encode()]))
        assert wrong(lambda: read_dataset(name, tmp_path / "set"), capsys) is None, number
        path.write_bytes(content)

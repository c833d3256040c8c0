from pathlib import Path
from types import SimpleNamespace

import pytest
from small_judge import write_clips, write_judge

from reward_model.judging.local import Judge


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> SimpleNamespace:
    """``videos`` by name and the ``path`` of a small judge."""
    directory = tmp_path_factory.mktemp("small_judge")
    videos = write_clips(directory)
    write_judge(directory / "judge", videos)
    return SimpleNamespace(videos=videos, path=directory / "judge")


@pytest.fixture(scope="session")
def judge(small) -> Judge:
    return Judge.from_pretrained(small.path, device="cpu")


@pytest.fixture
def not_a_video(tmp_path) -> Path:
    (tmp_path / "broken_clip.mp4").write_bytes(b"this is no video")
    return tmp_path / "broken_clip.mp4"

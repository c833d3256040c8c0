"""A model that counts time in whole positions is never shown two temporal patches in one, and it is said."""

import numpy as np
import pytest
import torch
from small_judge import SMALL_PROMPT
from test_vllm import vllm  # noqa: F401

from reward_model.encoding import ShowingEncoder, tokens_per_second
from reward_model.judging.local import Judge
from reward_model.judging.sharing import positions
from reward_model.judging.vllm_offline import VllmJudge
from reward_model.questions import View
from reward_model.wordings import Shown
from videoduet.video import write_video


def places(judge: Judge, encoder: ShowingEncoder, path: str) -> list[int]:
    """The positions in time of a video's tokens."""
    showing = encoder.showing(SMALL_PROMPT.messages("", path, path))
    inputs = encoder.collate([showing], pixels=True)
    found = positions(judge.model, inputs)[1, 0]
    return found[inputs["input_ids"][0] == encoder.video_token_id].tolist()


@pytest.fixture(scope="module")
def fast(tmp_path_factory) -> str:
    """Sixteen frames in a second."""
    path = tmp_path_factory.mktemp("fast") / "fast.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8), 16)
    return str(path)


@pytest.mark.parametrize("per_second", [2, 4, 3, 25])
def test_patches_of_a_short_clip_keep_positions_of_their_own(judge, fast, per_second, monkeypatch, capsys):
    monkeypatch.setattr(judge.model.config.vision_config, "tokens_per_second", per_second)
    assert tokens_per_second(judge.model.config) == per_second
    view = View(16, None, 8)
    for told, expected in ((None, min(8, int(7 * per_second / 8) + 1)), (per_second, 8)):
        encoder = ShowingEncoder.for_view(judge.processor, view, told)
        first = places(judge, encoder, fast)
        assert len(set(first[: len(first) // 2])) == expected
    printed = capsys.readouterr().err
    if per_second < 8:
        assert printed.count("tells apart") == 1 and "fast.mp4: 16 frames in 1 s" in printed
        assert f"than the {2 * per_second:g} a second" in printed
    else:
        assert not printed


def test_time_that_can_be_told_is_the_truth(judge, small, capsys):
    """Four frames of a second, at two positions a second; and a clip of one patch, which has no neighbour."""
    encoder = ShowingEncoder.for_view(judge.processor, View(4, None, 8), 2.0)
    assert encoder.video(small.videos["red"].path).seconds_per_grid == pytest.approx(0.5)
    assert encoder.video(small.videos["single_frame"].path).seconds_per_grid == pytest.approx(2 / 8)
    assert not capsys.readouterr().err


def test_vllm_is_told_the_same(judge, fast, tmp_path, vllm):  # noqa: F811
    """Sixteen frames in a second are 8 a second for a judge of 4 positions."""
    judge.model.save_pretrained(tmp_path)
    judge.processor.save_pretrained(tmp_path)
    asked = VllmJudge(str(tmp_path), shown=Shown(num_frames=16))
    frames, metadata = asked._video(fast, asked.prompts.score.score("", fast))
    assert len(frames) == 16 and metadata["fps"] == 8 and metadata["duration"] == 2


def test_judges_and_trainings_show_it_so(judge, fast):
    """The shipped default shows 8 frames a second to a judge of 4 positions: as it was."""
    assert judge.encoder.tokens_per_second == tokens_per_second(judge.model.config) == 4
    assert torch.tensor(judge.encoder.video(fast).seconds_per_grid) == 0.5

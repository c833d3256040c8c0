"""Networks that see two videos at once: swapping is exact, and they are no difference of two scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_assessor import write_assessor

from reward_model import build_judge
from reward_model.families.pairs import Looked, PairNetwork, PairNetworks, layers_of
from reward_model.judging.assessor import AssessorJudge
from reward_model.judging.base import Failure
from reward_model.presets import ASSESSED
from reward_model.wordings import Shown
from videoduet.errors import InputError
from videoduet.video import Clip, FrameSampling


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return write_assessor(tmp_path_factory.mktemp("assessor") / "judge")


@pytest.fixture(scope="module")
def videos() -> list[Clip]:
    rng = np.random.default_rng(0)
    shown = [rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8) for _ in range(3)]
    return [Clip(frames, np.arange(8) / 8, 8.0) for frames in shown]


def looked(count: int, seed: int) -> Looked:
    torch.manual_seed(seed)
    return Looked([torch.randn(count, 12, 6), torch.randn(count, 12, 6)], torch.randn(count, 2, 10))


def test_swapping_is_exact_and_lengths_count_nothing():
    networks = PairNetworks([PairNetwork((6, 6), 10, 8) for _ in range(2)], (0, 1))
    first, second = looked(5, 1), looked(5, 2)
    with torch.no_grad():
        logits = networks(first, second)
        assert logits.shape == (5, 2) and logits.abs().min() > 0
        assert torch.equal(networks(second, first), -logits)
        assert torch.equal(networks(first, first), torch.zeros(5, 2))
        longer = Looked([3 * layer for layer in first.layers], first.before / 5)
        assert torch.allclose(networks(longer, second), logits, atol=1e-5)
        # A difference of two scores would have logit(a, b) + logit(b, c) = logit(a, c).
        third = looked(5, 3)
        assert not torch.allclose(logits + networks(second, third), networks(first, third), atol=1e-3)
    with pytest.raises(InputError, match="as many of each"):
        networks(first, Looked([layer[:, :6] for layer in second.layers], second.before))


def test_layers_are_at_equal_distances():
    assert [layers_of(n) for n in (1, 2, 6, 24)] == [[0], [0, 1], [0, 2, 3, 5], [5, 11, 17, 23]]


@pytest.mark.parametrize("by", ["networks", "scores"])
def test_a_pair_turned_round_is_the_same_pair(directory, videos, by):
    judge = build_judge(directory, device="cpu", batch_size=2)
    pairs = [(videos[0], videos[1], "a red circle"), (videos[2], videos[0], "a circle")]
    turned = [(second, first, prompt) for first, second, prompt in pairs]
    found, back = (list(judge.preferences(asked, by=by)) for asked in (pairs, turned))
    for (_, logits), (_, mirrored) in zip(found, back, strict=True):
        assert tuple(logits) == ASSESSED
        assert [*logits.values()] == [-value for value in mirrored.values()], "exact, to the last bit"
    if by == "networks":
        one, _ = judge.compare(pairs)
        assert one.status == "decided" and one.p_first == one.forward.p
        assert one.backward is not None and one.backward.p == pytest.approx(1 - one.p_first)
        (back_one, _) = judge.compare(turned)
        assert back_one.preferred_id == one.preferred_id and back_one.p_first == one.backward.p
        assert "static quality 0." in one.forward.text
    else:
        scores = list(judge.score([(video, prompt) for first, second, prompt in pairs for video in (first, second)]))
        expected = [(a.value - b.value) / 10 for a, b in zip(scores[0].dimensions, scores[1].dimensions, strict=True)]
        assert [*found[0][1].values()] == pytest.approx(expected, abs=1e-4)


def test_bad_pairs_end_no_batch(directory, videos):
    judge = build_judge(directory, device="cpu")
    failures: list[Failure] = []
    pairs = [("nowhere.mp4", videos[0]), (videos[0], videos[1]), videos[0]]
    assert len(list(judge.compare(pairs, failures=failures))) == 1 and len(failures) == 2
    with pytest.raises(InputError, match="nowhere"):
        list(judge.compare(pairs))


def test_videos_of_other_lengths_are_compared_among_themselves(directory, videos):
    """At so many frames a second, a pair of like length is compared, one of unlike length is told of."""
    short = [Clip(clip.frames[:4], clip.seconds[:4], 8.0) for clip in videos]
    shown = Shown(frames=FrameSampling(fps=8, min_frames=4, max_frames=8))
    judge = AssessorJudge.from_pretrained(directory, device="cpu", batch_size=2, shown=shown)
    pairs = [
        (videos[0], videos[1], "a"),
        (short[0], short[1], "a"),
        (videos[0], short[1], "a"),
        (videos[2], videos[0], "a"),
    ]
    failures: list[Failure] = []
    found = list(judge.preferences(pairs, failures=failures))
    alone = [next(judge.preferences([pairs[place]]))[1] for place in (0, 1, 3)]
    for (_, logits), once in zip(found, alone, strict=True):
        assert [*logits.values()] == pytest.approx([*once.values()], abs=1e-5)
    (failure,) = failures
    assert "frames cannot be compared" in failure.reason


def test_a_judge_without_networks_compares_by_scores(tmp_path, videos):
    plain = write_assessor(tmp_path / "judge", pairs=False)
    judge = build_judge(plain, device="cpu")
    (one,), (by_scores,) = (list(judge.preferences([(*videos[:2], "a")], by=by)) for by in (None, "scores"))
    assert one[1] == by_scores[1]


def test_networks_that_do_not_fit_are_named(directory, tmp_path):
    shutil.copytree(directory, tmp_path / "judge")
    config = json.loads((tmp_path / "judge" / "config.json").read_text())
    config["score_dimensions"] = config["score_dimensions"][:3]
    (tmp_path / "judge" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="4 score heads .* names 3 dimensions"):
        build_judge(tmp_path / "judge", device="cpu")

"""Ids and seeds depend on what a thing is; a comparison's status follows from its two orders."""

import subprocess
import sys

import pytest

from videoduet.errors import InputError
from videoduet.records import (
    Comparison,
    LabelledPair,
    OrderVerdict,
    Prompt,
    Sample,
    SamplerSettings,
    Video,
    VideoPair,
    stable_id,
)
from videoduet.seeding import seed_for

PAIR = VideoPair(prompt=Prompt.of("x"), first=Video(id="a", path="a.mp4"), second=Video(id="b", path="b.mp4"))


def compare(forward, backward=..., p=None):
    orders = [None if verdict is ... else OrderVerdict(text="", verdict=verdict) for verdict in (forward, backward)]
    return Comparison.of(PAIR, "judge", *orders, p)


@pytest.mark.parametrize(
    ("forward", "backward", "status", "preferred"),
    [
        ("first", "second", "decided", "a"),
        ("second", "first", "decided", "b"),
        ("first", "first", "disagreement", None),
        ("second", "second", "disagreement", None),
        ("tie", "first", "disagreement", None),
        ("second", "tie", "disagreement", None),
        ("tie", "tie", "tie", None),
        (None, "first", "unparsable", None),
        ("second", None, "unparsable", None),
        (None, None, "unparsable", None),
        ("first", ..., "decided", "a"),
        ("second", ..., "decided", "b"),
        ("tie", ..., "tie", None),
        (None, ..., "unparsable", None),
    ],
)
def test_status_and_preference(forward, backward, status, preferred):
    comparison = compare(forward, backward)
    assert (comparison.status, comparison.preferred_id) == (status, preferred)
    assert (comparison.prompt_id, comparison.first_id, comparison.second_id) == (PAIR.prompt.id, "a", "b")


def test_a_probability_is_kept_but_decides_nothing():
    comparison = compare("first", "second", 0.2)
    assert comparison.p_first == 0.2 and comparison.preferred_id == "a"


def test_ids_are_pinned():
    assert stable_id("a", 1) == "839e11a421d370be"
    assert Prompt.of("a red circle").id == Prompt.of("a red circle", source="elsewhere").id
    assert stable_id("ab", "c") != stable_id("a", "bc")
    assert compare("first").id == compare("second", "first").id  # of the question, not of the answer


def test_a_sample_and_a_label_know_their_videos():
    settings = SamplerSettings(steps=1, guidance_scale=1.0, fps=8, num_frames=1, height=8, width=8)
    sample = Sample(
        id="v", prompt_id="p", index=0, seed=0, generator="G_0", round=0, settings=settings, video_path="v.mp4",
        latents_path="l", index_in_shard=0,
    )  # fmt: skip
    assert sample.video == Video(id="v", path="v.mp4")
    label = LabelledPair(prompt=PAIR.prompt, first=PAIR.first, second=PAIR.second, preferred="first")
    assert label.pair == PAIR


def test_seeds_are_pinned():
    assert seed_for(0, "sample", 0, "abc", 3) == 8196433213171421576
    assert seed_for("render", 7) == 4565060252444001492


def test_seeds_depend_on_every_part_and_its_place():
    seeds = {seed_for(*parts) for parts in ((1, 2), (2, 1), (1, 2, 3), (12,), ("1 2",), (1, "2", ""))}
    assert len(seeds) == 6
    assert seed_for(1, 2) == seed_for("1", "2")
    assert all(0 <= seed < 2**63 for seed in map(seed_for, range(200)))


def test_seeds_do_not_depend_on_the_process():
    code = "from videoduet.seeding import seed_for; print(seed_for('x', 1))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == seed_for("x", 1)


def test_a_prompt_can_be_written_down():
    with pytest.raises(InputError, match=r"'a \\ud83d' holds half a character"):
        Prompt.of("a \ud83d")
    assert stable_id("caf\udce9.mp4") != stable_id("café.mp4"), "a file may be called so"

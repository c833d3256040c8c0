"""The oracle is right on rendered truth, falls with every damage, and is at chance where prompts are shuffled."""

import time

import numpy as np
import pytest

from shapes_world.degradations import ATTRIBUTES, SPATIAL, TEMPORAL, degrade, wrong
from shapes_world.oracle import DIMENSIONS, _probabilities, _read, oracle_score, overall
from shapes_world.world import BACKGROUNDS, COLOURS, Scene, all_scenes, coverage, draw, render, trajectory
from videoduet.errors import InputError
from videoduet.video import read_video, write_video

SCENES = [all_scenes()[index] for index in np.random.default_rng(0).permutation(360)]
PROMPT = "a red circle moving right fast on a purple background"
STRENGTHS = (0, 0.25, 0.5, 0.75, 1)


def clip_of(index: int) -> np.ndarray:
    return render(SCENES[index].prompt, index)


def attribute_probabilities(frames: np.ndarray, prompt: str) -> dict[str, float]:
    """The probability in [0, 1] that each attribute of the clip is what ``prompt`` says; 0 where there is no shape."""
    scene = Scene.parse(prompt)
    reading = _read(frames)
    if reading is None or not reading.presence.any():
        return dict.fromkeys(ATTRIBUTES, 0.0)
    probabilities = _probabilities(reading)
    return {name: float(probabilities[name][values.index(getattr(scene, name))]) for name, values in ATTRIBUTES.items()}


def recognise(frames: np.ndarray) -> Scene | None:
    """The scene that ``frames`` show best, without any prompt; None where there is no shape."""
    reading = _read(frames)
    if reading is None or not reading.presence.any():
        return None
    probabilities = _probabilities(reading)
    return Scene(**{name: values[int(probabilities[name].argmax())] for name, values in ATTRIBUTES.items()})


def mean_scores(frames: list[np.ndarray]) -> dict[str, float]:
    """Mean of each dimension where clip i answers the prompt of scene i."""
    scores = [oracle_score(clip, scene.prompt) for clip, scene in zip(frames, SCENES, strict=False)]
    return {name: float(np.mean([score[name] for score in scores])) for name in DIMENSIONS}


def test_rendered_truth_scores_high_in_every_scene():
    for index, scene in enumerate(SCENES[:120]):
        scores = oracle_score(clip_of(index), scene.prompt)
        assert list(scores) == list(DIMENSIONS)
        assert all(type(value) is float and 0.9 <= value <= 1 for value in scores.values()), (scene, scores)
        assert recognise(clip_of(index)) == scene


@pytest.mark.parametrize("name", SPATIAL + TEMPORAL)
def test_falls_with_every_damage(name):
    clips = [clip_of(index) for index in range(24)]
    dimension = "spatial" if name in SPATIAL else "temporal"
    scores = [
        mean_scores([degrade(clip, name, strength, np.random.default_rng(i)) for i, clip in enumerate(clips)])
        for strength in STRENGTHS
    ]
    values = [score[dimension] for score in scores]
    assert np.all(np.diff(values) < 0), values
    assert values[-1] < values[0] - 0.3
    # Damage to one dimension is not mistaken for damage to the other.
    other = "temporal" if name in SPATIAL else "spatial"
    assert scores[2][other] > 0.9
    overalls = [overall(score) for score in scores]
    assert np.all(np.diff(overalls) < 0), overalls


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_wrong_attribute_costs_alignment_and_is_named(attribute):
    for index, scene in enumerate(SCENES[:32]):
        other = wrong(scene, attribute, np.random.default_rng(index))
        frames = render(other.prompt, index)
        right, mistaken = (oracle_score(clip, scene.prompt)["alignment"] for clip in (clip_of(index), frames))
        assert mistaken < right - 0.25
        probabilities = attribute_probabilities(frames, scene.prompt)
        assert probabilities.pop(attribute) < 0.15
        assert min(probabilities.values()) > 0.75


def test_more_wrong_attributes_cost_more():
    frames = render(PROMPT, 0)
    scene = Scene.parse(PROMPT)
    alignments = [oracle_score(frames, PROMPT)["alignment"]]
    for attribute in ATTRIBUTES:
        scene = wrong(scene, attribute, np.random.default_rng(0))
        alignments.append(oracle_score(frames, scene.prompt)["alignment"])
    assert np.all(np.diff(alignments) < -0.03)
    assert alignments[-1] < 0.05


def test_attributes_are_at_chance_on_shuffled_prompts():
    order = np.random.default_rng(1).permutation(len(SCENES))
    seen = [recognise(clip_of(index)) for index in range(180)]
    asked = [SCENES[order[index]] for index in range(180)]
    probabilities = [attribute_probabilities(clip_of(index), scene.prompt) for index, scene in enumerate(asked)]
    for name, values in ATTRIBUTES.items():
        chance = 1 / len(values)
        error = 3 * np.sqrt(chance * (1 - chance) / len(seen))
        equal = [getattr(a, name) == getattr(b, name) for a, b in zip(seen, asked, strict=True)]
        assert abs(np.mean(equal) - chance) < error
        assert abs(np.mean([each[name] for each in probabilities]) - chance) < error


def test_a_clip_played_backwards_goes_the_wrong_way():
    backwards = render(PROMPT, 0)[::-1]
    scores = oracle_score(backwards, PROMPT)
    assert scores["spatial"] > 0.9
    assert scores["alignment"] < 0.65
    assert scores["temporal"] < 0.1
    assert oracle_score(backwards, PROMPT.replace("right", "left"))["temporal"] > 0.9


def test_survives_mp4(tmp_path):
    for index in range(12):
        write_video(tmp_path / "clip.mp4", clip_of(index), 8)
        before = oracle_score(clip_of(index), SCENES[index].prompt)
        after = oracle_score(read_video(tmp_path / "clip.mp4").frames, SCENES[index].prompt)
        assert all(abs(before[name] - after[name]) < 0.08 for name in DIMENSIONS), (before, after)


@pytest.mark.parametrize("frames", [
    np.zeros((8, 32, 32, 3), np.uint8), np.full((8, 32, 32, 3), 255, np.uint8),
    np.broadcast_to(np.uint8(BACKGROUNDS["purple"]), (8, 32, 32, 3)), np.zeros((1, 32, 32, 3), np.uint8),
    np.zeros((0, 32, 32, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8),
])  # fmt: skip
def test_nothing_to_see_scores_nothing(frames):
    scores = oracle_score(frames, PROMPT)
    assert max(scores.values()) < 0.05
    assert overall(scores) < 0.05


def test_a_blank_clip_is_no_scene():
    blank = np.zeros((8, 32, 32, 3), np.uint8)
    assert recognise(blank) is None
    assert set(attribute_probabilities(blank, PROMPT).values()) == {0.0}


def test_a_still_has_no_motion():
    for frames in (render(PROMPT, 0)[:1], np.repeat(render(PROMPT, 0)[:1], 8, 0)):
        scores = oracle_score(frames, PROMPT)
        assert scores["spatial"] > 0.9
        assert scores["temporal"] < 0.05
        assert scores["alignment"] < 0.5


def test_other_sizes_and_lengths():
    double = render(PROMPT, 0).repeat(2, 1).repeat(2, 2)
    assert min(oracle_score(double, PROMPT).values()) > 0.9
    assert min(oracle_score(render(PROMPT, 0)[:4], PROMPT).values()) > 0.9
    with pytest.raises(ValueError, match="frames must be"):
        oracle_score(double[0], PROMPT)
    with pytest.raises(InputError, match="no shapes-world prompt"):
        oracle_score(double, "a cat")


def painted(cover: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Frames with ``colour`` (broadcastable) where ``cover`` (T, H, W) says, on the background that PROMPT asks for."""
    weights = np.broadcast_to(cover, (8, 32, 32))[..., None]
    return np.rint(weights * colour + (1 - weights) * np.array(BACKGROUNDS["purple"])).astype(np.uint8)


def test_imperfect_clips_get_graded_scores():
    scene = Scene.parse(PROMPT)
    centres = trajectory(scene, np.random.default_rng(5))
    cover = np.stack([coverage("circle", *centre) for centre in centres])
    red, blue = np.array(COLOURS["red"]), np.array(COLOURS["blue"])
    clean = oracle_score(painted(cover, red), PROMPT)

    faint = [oracle_score(painted(share * cover, red), PROMPT)["alignment"] for share in (1, 0.5, 0.2, 0.0)]
    assert np.all(np.diff(faint) < 0)

    left = (np.arange(32) < centres[:, 1, None])[:, None, :, None]
    half_blue = attribute_probabilities(painted(cover, np.where(left, red, blue)), PROMPT)
    assert 0.3 < half_blue["colour"] < 0.8
    assert half_blue["direction"] > 0.9

    ghost = coverage("circle", 8, 8)
    haunted = [painted(np.maximum(cover, share * ghost), red) for share in (0, 0.25, 0.5, 1)]
    ghosts = [oracle_score(frames, PROMPT)["spatial"] for frames in haunted]
    assert np.all(np.diff(ghosts) < -0.1)

    half_missing = oracle_score(painted(cover * (np.arange(32) < 16)[:, None], red), PROMPT)
    assert 0.05 < half_missing["spatial"] < 0.6 * clean["spatial"]
    assert 0.3 < half_missing["alignment"] < clean["alignment"]

    wobble = np.random.default_rng(0).normal(size=(8, 2))
    wobbles = [oracle_score(draw(scene, centres + width * wobble), PROMPT)["temporal"] for width in (0, 0.5, 1, 2)]
    assert np.all(np.diff(wobbles) < -0.05)


def test_fast_enough_to_be_called_thousands_of_times():
    clips = [clip_of(index) for index in range(20)]
    oracle_score(clips[0], PROMPT)  # builds the templates
    start = time.process_time()
    for clip in clips:
        oracle_score(clip, PROMPT)
    # About 4 ms on one core; the bar leaves room for a slow machine.
    assert (time.process_time() - start) / len(clips) < 0.05

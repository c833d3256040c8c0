"""What changed in a generator's videos: each measure moves with its name, and an alarm takes certainty."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.drift import DIVERSITY, MEASURES, Drift, Pair, beyond, drift
from shapes_world.degradations import blur, flicker
from shapes_world.world import all_scenes, render
from videoduet.errors import InputError
from videoduet.video import write_video

PROMPTS = [scene.prompt for scene in all_scenes()[::60]]


def greyed(frames: np.ndarray, by: float) -> np.ndarray:
    """Colours nearer to grey (``by`` < 1) or further from it."""
    grey = frames.mean(-1, keepdims=True)
    return (grey + by * (frames - grey)).clip(0, 255).astype(np.uint8)


CHANGES = {
    "saturation": lambda frames: greyed(frames, 0.3),
    "brightness": lambda frames: (frames * 0.5).astype(np.uint8),
    "contrast": lambda frames: (128 + 0.4 * (frames - 128.0)).astype(np.uint8),
    "sharpness": lambda frames: blur(frames.astype(float), 1.0, np.random.default_rng(0)).astype(np.uint8),
    "motion": lambda frames: np.repeat(frames[4:5], len(frames), 0),
    "flicker": lambda frames: (
        flicker(frames.astype(float), 1.0, np.random.default_rng(0)).clip(0, 255).astype(np.uint8)
    ),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two videos of each prompt: (prompt, frames, path)."""
    folder, found = tmp_path_factory.mktemp("base"), []
    for number, prompt in enumerate(PROMPTS):
        for index in range(2):
            frames, path = render(prompt, 10 * number + index), folder / f"{number}_{index}.mp4"
            write_video(path, frames, 8)
            found.append((f"p{number}", frames, str(path)))
    return found


@pytest.fixture
def after(base, tmp_path):
    """The drift of videos that ``change`` makes of the base's frames, by the number of the video."""

    def moved(change) -> Drift:
        pairs = []
        for number, (prompt, frames, path) in enumerate(base):
            current = str(tmp_path / f"{number}.mp4")
            write_video(current, change(frames, number), 8)
            pairs.append(Pair(prompt_id=prompt, base=path, current=current))
        return drift(pairs)

    return moved


@pytest.mark.parametrize("name", CHANGES)
def test_a_measure_moves_with_what_it_is_called_after(name, after):
    found = {change.name: change for change in after(lambda frames, _: CHANGES[name](frames)).changes}
    assert set(found) == {*MEASURES, DIVERSITY}
    assert found[name].alarm and (found[name].change > 0) == (name == "flicker")
    assert found[name].prompts == len(PROMPTS) and found[name].low < found[name].change < found[name].high


def test_videos_that_did_not_change_raise_no_alarm(after):
    found = after(lambda frames, _: frames)
    assert not found.alarms and all(change.change == 0 for change in found.changes)


def test_videos_of_a_prompt_that_become_alike(base, after):
    found = {change.name: change for change in after(lambda _, number: base[number // 2 * 2][1]).changes}
    assert found[DIVERSITY].alarm and found[DIVERSITY].change == -1


def test_one_video_that_changed_much_is_no_alarm_and_is_shown_first(after):
    found = after(lambda frames, number: greyed(frames, 0.0) if number == 3 else frames)
    (saturation,) = (change for change in found.changes if change.name == "saturation")
    assert not found.alarms and saturation.change < 0
    assert saturation.moved[0].current.endswith("/3.mp4") and saturation.moved[0].change < -0.9


def test_an_alarm_in_words_and_as_plain_data(after):
    found = after(lambda frames, _: greyed(frames, 0.0))
    (sentence,) = (text for text in found.alarms if "saturation" in text)
    assert sentence.startswith("The videos' saturation moved by -100 % of the base's, surely by more than 25 %")
    assert found.to_json()["alarms"] == found.alarms and found.to_json()["changes"][0]["name"] == "saturation"


def test_a_change_is_measured_by_how_much_the_base_s_videos_of_a_prompt_differ(after):
    """Less than a tolerance, but beyond what any of them ever was; where they differ much it is nothing."""
    assert beyond(-0.2, -0.15, 0.25, 0.1) and not beyond(-0.2, -0.15, 0.25, 0.2)
    assert beyond(0.3, 0.4, 0.25, 0.5), "the tolerance stands, however much they differ"
    assert not beyond(0.03, 0.09, 0.25, 0.0), "too slight"
    found = {change.name: change for change in after(lambda frames, _: frames).changes}
    assert found["diversity"].spread is None and found["sharpness"].spread > found["brightness"].spread > 0
    moved = replace(found["saturation"], change=-0.2, low=-0.22, high=-0.18, alarm=True)
    (sentence,) = Drift(changes=(moved,)).alarms
    assert "surely by more than 5 %, which is beyond what the base's videos of a prompt differ by" in sentence


def test_one_prompt_has_no_interval_and_raises_no_alarm(base):
    (_, _, one), (_, _, other), *_ = base
    found = drift([Pair(prompt_id="p", base=one, current=other)])
    assert {(change.low, change.high, change.alarm) for change in found.changes} == {(None, None, False)}


def test_no_videos():
    with pytest.raises(InputError, match="no videos to compare"):
        drift([])

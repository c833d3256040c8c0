"""What is not drawn of a prompt is said, and settings with which nothing can be drawn are refused before any work."""

from dataclasses import replace

import pytest

from alignment.training.config import PreferenceTrainingConfig
from evaluation.vbench.config import VBenchEvaluationConfig
from generators import load_generator
from generators.base import override
from generators.config import SamplingConfig, check_sampler
from generators.drawing import unread
from pipelines.loop.config import GeneratorConfig
from pipelines.sample import draw
from videoduet.errors import InputError
from videoduet.records import SamplerSettings
from videoduet.store import read_json

WORDS = "a red circle moving left fast on a teal background "
SETTINGS = SamplerSettings(steps=4, guidance_scale=7.5, fps=8, num_frames=16, height=32, width=32)


@pytest.fixture(scope="module")
def turbo(shipped_generator):
    return load_generator(shipped_generator, sampler={"steps": 1, "num_frames": 2})


def test_what_the_text_encoder_does_not_read_is_said(turbo):
    long = WORDS * 40
    assert turbo.encode_prompts([f"{long} one"]).equal(turbo.encode_prompts([f"{long} other"]))
    (note,) = unread(turbo, [WORDS, WORDS, f"{long} one", f"{long} other", f"blue {long}"])
    assert f"3 of 4 prompts are longer than the {turbo.text_length} tokens" in note
    assert "2 of them differ from another only there" in note and "shorten" in note
    (note,) = unread(turbo, [f"blue {long}", WORDS])
    assert "1 of 2 prompts" in note and "differ" not in note
    assert unread(turbo, [WORDS, ""]) == []


def test_the_length_is_where_prompts_are_cut(turbo):
    """A word at the end of what is read changes the conditioning, one behind it does not."""
    word = "circle "
    fits = next(n for n in range(1, 200) if len(turbo.tokens(word * (n + 1))) > turbo.text_length)
    assert unread(turbo, [word * fits]) == [] and len(unread(turbo, [word * (fits + 1)])) == 1
    assert not turbo.encode_prompts([word * fits]).equal(turbo.encode_prompts([word * (fits - 1)]))


def test_it_is_said_in_the_terminal_and_kept(shipped_generator, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text(f"{WORDS}\n{WORDS * 40}\n")
    config = SamplingConfig(
        generator=str(shipped_generator), prompts=str(tmp_path / "prompts.txt"), output=str(tmp_path / "out"),
        sampler={"steps": 1, "num_frames": 2},
    )  # fmt: skip
    (note,) = read_json(draw(config) / "done.json")["counts"]["notes"]
    assert "1 of 2 prompts" in note and note in capsys.readouterr().err
    (tmp_path / "prompts.txt").write_text(f"{WORDS}\n")
    again = draw(replace(config, output=str(tmp_path / "short")))
    assert "notes" not in read_json(again / "done.json")["counts"] and "longer" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fps", 0), ("fps", -8), ("fps", 1e6), ("fps", "8"), ("fps", None), ("fps", float("nan")), ("fps", True),
        ("steps", 0), ("steps", 2.5), ("num_frames", -1), ("num_frames", "16"), ("height", 0), ("width", [32]),
        ("guidance_scale", float("inf")), ("guidance_scale", "high"), ("stepz", 4),
    ],
)  # fmt: skip
def test_settings_that_draw_nothing_are_wrong_usage_before_any_work(name, value):
    sampler = {name: value}
    for make in (
        lambda: check_sampler(sampler),
        lambda: override(SETTINGS, sampler),
        lambda: SamplingConfig(generator="nowhere", prompts="nowhere", output="nowhere", sampler=sampler),
        lambda: GeneratorConfig(path="nowhere", sampler=sampler),
        lambda: PreferenceTrainingConfig(generator="nowhere", data="nowhere", output="nowhere", sampler=sampler),
        lambda: VBenchEvaluationConfig(generator="nowhere", output="nowhere", sampler=sampler),
    ):
        with pytest.raises(InputError, match=name) as refused:
            make()
        assert refused.value.exit_code == 2


def test_settings_that_draw_something():
    sampler = {"fps": 0.5, "guidance_scale": 1, "steps": 1, "num_frames": 1}
    assert override(SETTINGS, sampler) == replace(SETTINGS, **sampler)

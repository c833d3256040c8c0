"""Offline preference training, by its command, on real files and the shipped generator."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from alignment.training.config import AlignConfig, PreferenceTrainingConfig
from alignment.training.offline import train_on_preferences
from generators import load_generator
from generators.sampling import SamplingItem, sample_videos
from pipelines import train_generator
from shapes_world import all_scenes, render
from videoduet.errors import InputError
from videoduet.records import PreferencePair, Prompt
from videoduet.store import read_json, write_records
from videoduet.video import write_video

SAMPLER = {"num_frames": 2}
ALIGN = AlignConfig(
    max_steps=3, epochs=2, draws_per_pair=2, batch_size=2, micro_batch=2, lora_rank=4, held_out=0.34, held_out_steps=2
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """UnifiedReward's list: three captions, clips of the world against noise; one pair lacks a side."""
    folder = tmp_path_factory.mktemp("made")
    rows, rng = [], np.random.default_rng(0)
    for number, scene in enumerate(all_scenes()[::100][:3]):
        names = [f"clips/{number}_{side}.mp4" for side in ("good", "bad")]
        good = render(scene.prompt, number)
        for name, frames in zip(names, (good, rng.integers(0, 256, good.shape, np.uint8)), strict=True):
            write_video(folder / name, frames, 8)
        rows.append({"caption": scene.prompt, "chosen": names[0], "rejected": names[1]})
    rows.append({**rows[0], "rejected": "clips/none.mp4"})
    (folder / "pairs.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def data(made, tmp_path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "pairs.json"


@pytest.fixture(scope="module")
def trained(made, shipped_generator) -> Path:
    """The output of a training on it, with the config of the tests."""
    output = str(made.parent / "trained")
    config = PreferenceTrainingConfig(
        generator=str(shipped_generator), data=str(made / "pairs.json"), output=output, sampler=SAMPLER, align=ALIGN
    )
    return train(config).parent.parent


@pytest.fixture
def config(data, tmp_path, shipped_generator) -> PreferenceTrainingConfig:
    return PreferenceTrainingConfig(
        generator=str(shipped_generator), data=str(data), output=str(tmp_path / "out"), sampler=SAMPLER, align=ALIGN
    )


def train(config: PreferenceTrainingConfig) -> Path:
    return train_on_preferences(config).path


def command(config: PreferenceTrainingConfig, *more: str) -> None:
    arguments = ["--generator", config.generator, "--data", config.data, "--output", config.output]
    arguments += ["--sampler", json.dumps(SAMPLER), "--align.max_steps", "2", "--align.batch_size", "2", *more]
    train_generator.main(arguments)


def test_the_command(config, capsys):
    command(config, "--align.sdpo_mu", "0.9")
    said, output = capsys.readouterr().err, Path(config.output)
    assert "2 pairs, 2 steps" in said and "1 held-out pairs" in said and "1 pairs or videos were left out" in said
    assert f"--adapter {output / 'align' / 'adapter'}" in said
    assert "none.mp4" in (output / "left_out.json").read_text()
    assert len(list((output / "latents").glob("*.safetensors"))) == 6
    assert list((output / "events").rglob("events.*"))
    from generators.loading import with_adapter

    with_adapter(load_generator(config.generator), output / "align" / "adapter")
    command(config, "--align.sdpo_mu", "0.9")  # a finished training is not repeated
    with pytest.raises(SystemExit) as stopped:
        command(config, "--align.sdpo_mu", "0.5")
    assert stopped.value.code == 1 and "trained with another align.sdpo_mu" in capsys.readouterr().err


def test_captions_longer_than_the_text_encoder_reads_are_told(config, data, capsys):
    rows = json.loads(data.read_text())
    long = f"{rows[0]['caption']} " * 40
    data.write_text(json.dumps([{**rows[0], "caption": long}, *rows[1:]]))
    for _ in ("trained", "read back"):
        command(config)
        said = capsys.readouterr().err
        assert "Note: 1 of 3 prompts are longer than the" in said and f"They begin: {long[:60]!r}" in said


def test_what_is_written_can_be_read_again_and_nothing_is_encoded_twice(config, trained, tmp_path, monkeypatch):
    first = trained / "align" / "adapter"
    again = replace(
        config, data=str(trained / "preferences.jsonl"), output=str(tmp_path / "again"), cache=str(trained / "latents")
    )  # fmt: skip
    generator = type(load_generator(config.generator))
    monkeypatch.setattr(generator, "encode", lambda *_: pytest.fail("a video was encoded twice"))
    second = train(again)
    name = "adapter_model.safetensors"
    assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_round_of_the_loop(config, tmp_path):
    root = tmp_path / "run"
    generator = load_generator(config.generator, sampler={"steps": 1, **SAMPLER})
    prompts = [Prompt.of(scene.prompt) for scene in all_scenes()[::100][:2]]
    items = [SamplingItem(prompt, index, 10 * n + index) for n, prompt in enumerate(prompts) for index in range(2)]
    list(
        sample_videos(
            generator, items, root / "round_00" / "sample", root=root, version="G_0", round_number=0, batch_size=4
        )
    )
    write_records(root / "prompts.parquet", prompts, Prompt)
    (root / "config.yaml").write_text(json.dumps({"generator": {"path": config.generator}}))
    from generators.sampling import read_samples

    samples = read_samples(root / "round_00" / "sample", root=root)
    pairs = [
        PreferencePair(
            prompt_id=one.prompt_id, chosen_id=one.id, rejected_id=other.id, chosen_round=0, rejected_round=0,
            margin=0.5, agreement=1.0, comparison_ids=(),
        )
        for one, other in zip(samples[::2], samples[1::2], strict=True)
    ]  # fmt: skip
    write_records(root / "round_00" / "rank" / "pairs.parquet", pairs, PreferencePair)
    train(replace(config, data=str(root / "round_00"), align=replace(ALIGN, pair_weights="margin")))
    rows = [json.loads(line) for line in (Path(config.output) / "preferences.jsonl").read_text().splitlines()]
    assert [row["margin"] for row in rows] == [0.5, 0.5]
    assert all(Path(row["chosen"]).is_file() for row in rows)
    with pytest.raises(InputError, match="num_frames 2, not 3"):
        train(replace(config, data=str(root / "round_00"), output=str(tmp_path / "x"), sampler={"num_frames": 3}))
    (root / "config.yaml").write_text(json.dumps({"generator": {"path": "another"}}))
    with pytest.raises(InputError, match="drawn by another"):
        train(replace(config, data=str(root / "round_00"), output=str(tmp_path / "x")))
    # The same as files: latents are encoded from the videos now.
    train(replace(config, data=str(Path(config.output) / "preferences.jsonl"), output=str(tmp_path / "as_files")))
    assert read_json(tmp_path / "as_files" / "left_out.json") == []


def test_all_weights_make_a_whole_generator(config):
    result = train(replace(config, align=replace(ALIGN, parameters="all")))
    assert result == Path(config.output) / "generator"
    trained, base = load_generator(result, sampler=SAMPLER), load_generator(config.generator, sampler=SAMPLER)
    pairs = zip(trained.denoiser.parameters(), base.denoiser.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    assert trained.sample(trained.encode_prompts(["a red circle"]), [0]).shape == (1, *base.initial_noise(0).shape)


def test_a_stopped_training_goes_on(config, trained, monkeypatch):
    small = replace(config, align=replace(ALIGN, checkpoint_steps=1))
    from alignment.training.run import AlignRun

    step = AlignRun.step

    def stop(run, index):
        if index == 2:
            raise KeyboardInterrupt
        return step(run, index)

    monkeypatch.setattr(AlignRun, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(small)
    monkeypatch.setattr(AlignRun, "step", step)
    resumed = load_file(train(small) / "adapter_model.safetensors")
    whole = load_file(trained / "align" / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())


def test_videos_that_cannot_be_used_cost_their_pairs_alone(config, data):
    clips = data.parent / "clips"
    (clips / "0_good.mp4").write_bytes(b"no video")
    write_video(clips / "1_bad.mp4", np.zeros((1, 32, 32, 3), np.uint8), 8)
    train(config)
    problems = read_json(Path(config.output) / "left_out.json")
    assert len(problems) == 3 and any("0_good" in problem for problem in problems)
    assert any("lasts" in problem for problem in problems)
    rows = (Path(config.output) / "preferences.jsonl").read_text().splitlines()
    assert len(rows) == 1
    (clips / "2_good.mp4").unlink()
    with pytest.raises(InputError, match="None of the 2 pairs"):
        train(replace(config, output=f"{config.output}_2"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "d", "--output", "o"], "--generator"),
        (["--generator", "g", "--data", "d", "--output", "o", "--align.beta", "0"], "beta is 0"),
        (["--generator", "g", "--data", "d", "--output", "o", "--align.nonsense", "0"], "nonsense"),
    ],
)
def test_wrong_usage(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_generator.main(arguments)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_the_loop_carries_loras_alone():
    from pipelines.loop.config import parse as parse_run

    with pytest.raises((SystemExit, InputError), match=r"2|lora"):
        parse_run(["--align.parameters", "all"])

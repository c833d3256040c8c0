"""``pipelines.sample`` for prompts of one's own."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from generators.config import SamplingConfig
from generators.sampling import read_samples
from pipelines.sample import draw, main
from videoduet.errors import InputError
from videoduet.video import read_video

TEXTS = [f"a {colour} circle moving left fast on a teal background" for colour in ("red", "green", "blue", "white")]


@pytest.fixture
def config(tmp_path, shipped_generator) -> SamplingConfig:
    (tmp_path / "prompts.txt").write_text("\n".join(TEXTS))
    return SamplingConfig(
        generator=str(shipped_generator), prompts=str(tmp_path / "prompts.txt"), output=str(tmp_path / "out"),
        videos_per_prompt=3, batch_size=5, sampler={"steps": 1, "num_frames": 2},
    )  # fmt: skip


def videos(output: Path) -> dict[tuple[str, int], bytes]:
    return {
        (sample.prompt_id, sample.index): Path(sample.video_path).read_bytes()
        + load_file(sample.latents_path)["latents"][sample.index_in_shard].numpy().tobytes()
        for sample in read_samples(output, root=output)
    }


def test_what_is_drawn_is_listed_and_can_be_looked_at(config):
    output = draw(config)
    with open(output / "videos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == [text for text in TEXTS for _ in range(3)]
    assert [row["index"] for row in rows] == ["0", "1", "2"] * 4
    for row in rows:
        assert read_video(output / row["video"]).frames.shape == (2, 32, 32, 3)
    assert len({row["seed"] for row in rows}) == 12


def test_the_order_of_prompts_changes_no_bit(config, tmp_path):
    (tmp_path / "other.txt").write_text("\n".join(TEXTS[::-1]))
    other = replace(config, prompts=str(tmp_path / "other.txt"), output=str(tmp_path / "other"))
    assert videos(draw(config)) == videos(draw(other))


def test_a_stopped_command_goes_on(config, tmp_path):
    whole = videos(draw(replace(config, batch_size=1)))
    output = draw(replace(config, batch_size=1, output=str(tmp_path / "again")))
    (output / "done.json").unlink()
    last = max(output.glob("samples_*.parquet"))
    last.unlink()
    kept = min(output.glob("samples_*.parquet")).stat().st_mtime_ns
    assert videos(draw(replace(config, batch_size=1, output=str(output)))) == whole
    assert min(output.glob("samples_*.parquet")).stat().st_mtime_ns == kept


def test_other_settings_are_refused_in_a_directory_in_use(config):
    draw(config)
    with pytest.raises(InputError, match="drawn with another seed"):
        draw(replace(config, seed=1))


def test_an_adapter_changes_the_videos(config, tmp_path):
    from peft import LoraConfig, get_peft_model

    from generators import load_generator

    policy = get_peft_model(
        load_generator(config.generator).denoiser, LoraConfig(r=2, target_modules=["conv_out"], init_lora_weights=False)
    )
    policy.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    adapted = replace(config, adapter=str(tmp_path / "adapter"), output=str(tmp_path / "adapted"))
    plain, changed = videos(draw(config)), videos(draw(adapted))
    assert plain.keys() == changed.keys() and all(plain[key] != changed[key] for key in plain)


def test_the_command(config, tmp_path, capsys):
    (tmp_path / "v.csv").write_text(f"uuid,prompt\n1,{TEXTS[0]}\n2,{TEXTS[1]}\n")
    command = [
        *("--generator", config.generator, "--prompts", str(tmp_path / "v.csv"), "--output", str(tmp_path / "cli")),
        *("--sampler", '{"steps": 1, "num_frames": 2}', "--limit", "1", "--subset_seed", "5"),
    ]
    main(command)
    said = capsys.readouterr().err
    assert len(list((tmp_path / "cli" / "videos").glob("*.mp4"))) == 1 and "videos.csv" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompts", "a.txt", "--output", "o"], "--generator"),
        (["--generator", "g", "--prompts", "a.txt", "--output", "o", "--batch_size", "0"], "batch_size is 0"),
        (["--generator", "g", "--nonsense", "1"], "nonsense"),
    ],
)
def test_wrong_usage(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["gif", "webp", "frames"])
def test_what_can_be_pasted_into_a_page(config, kind, capsys):
    """Beside the mp4, which stays as it is; also of what is drawn already."""
    config = replace(config, limit=2, videos_per_prompt=1)
    output = draw(config)
    before = videos(output)
    draw(replace(config, format=kind))
    assert f"As {kind} they are in" in capsys.readouterr().err.replace("\n", " ") and videos(output) == before
    copies = sorted((output / kind).iterdir())
    assert [path.stem for path in copies] == sorted(path.stem for path in (output / "videos").iterdir())
    for path in copies:
        clip = read_video(output / "videos" / f"{path.stem}.mp4")
        shown = read_video(path).frames
        assert shown.shape == clip.frames.shape and abs(shown.astype(int) - clip.frames).mean() < 12


def test_a_form_that_there_is_not(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--generator=g", "--prompts=p", "--output=o", "--format=png"])
    assert raised.value.code == 2 and "format" in capsys.readouterr().err

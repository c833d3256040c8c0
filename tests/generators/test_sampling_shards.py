"""Drawing many videos: shards, resumption, processes."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from generators import load_generator
from generators.sampling import SamplingItem, read_samples, sample_videos
from videoduet.records import Prompt
from videoduet.store import content_hash
from videoduet.video import read_video

TEXTS = [f"a {colour} circle moving left fast on a teal background" for colour in ("red", "green", "blue")]
ITEMS = [
    SamplingItem(prompt, index, 100 * index + number)
    for number, prompt in enumerate(sorted(map(Prompt.of, TEXTS), key=lambda prompt: prompt.id))
    for index in range(3)
]


@pytest.fixture(scope="module")
def generator(shipped_generator):
    return load_generator(shipped_generator, sampler={"steps": 1, "num_frames": 2})


def draw(generator, root: Path, items=ITEMS, **options) -> list[int]:
    options = {"version": "G_1", "round_number": 1, "batch_size": 1, **options}
    return list(sample_videos(generator, items, root / "round_01" / "sample", root=root, **options))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def whole(generator, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    assert draw(generator, root) == [1] * 9
    return root


def test_records_say_what_was_drawn(generator, whole):
    samples = read_samples(whole / "round_01" / "sample", root=whole)
    assert [(sample.prompt_id, sample.index, sample.seed) for sample in samples] == [
        (item.prompt.id, item.index, item.seed) for item in ITEMS
    ]
    for sample in samples:
        assert (sample.generator, sample.round, sample.settings) == ("G_1", 1, generator.settings)
        assert sample.id == content_hash(sample.video_path)
        assert read_video(sample.video_path).frames.shape == (2, 32, 32, 3)


def test_paths_are_absolute_in_memory_and_move_with_their_directory(whole, tmp_path):
    copy = Path(shutil.copytree(whole, tmp_path / "moved"))
    for root in (whole, copy):
        for sample in read_samples(root / "round_01" / "sample", root=root):
            for path in map(Path, (sample.video_path, sample.latents_path)):
                assert path.is_absolute() and path.is_relative_to(root) and path.is_file()
    (stored, *_) = pq.read_table(copy / "round_01" / "sample" / "samples_G_1_00000.parquet").to_pylist()
    assert stored["latents_path"] == "round_01/sample/latents_G_1_00000.safetensors"


def test_latents_are_those_of_the_videos(generator, whole):
    for sample in read_samples(whole / "round_01" / "sample", root=whole)[3:6]:
        latents = load_file(sample.latents_path)["latents"][sample.index_in_shard]
        frames = generator.decode(latents[None])[0].float()
        error = (frames - torch.from_numpy(read_video(sample.video_path).frames).float()).abs().mean()
        assert error < 4


def test_shards_hold_four_batches(whole):
    names = sorted(path.name for path in (whole / "round_01" / "sample").glob("*.*"))
    parts = ("00000", "00001", "00002")
    assert names == [f"latents_G_1_{n}.safetensors" for n in parts] + [f"samples_G_1_{n}.parquet" for n in parts]
    shapes = [load_file(path)["latents"].shape[0] for path in sorted(whole.rglob("*.safetensors"))]
    assert shapes == [4, 4, 1]


def test_versions_live_side_by_side(generator, tmp_path):
    for version in ("G_1", "G_10"):
        draw(generator, tmp_path, ITEMS[:2], version=version)
    output = tmp_path / "round_01" / "sample"
    assert {sample.generator for sample in read_samples(output, "G_1", root=tmp_path)} == {"G_1"}
    assert len(read_samples(output, root=tmp_path)) == 4


def test_whole_shards_are_kept_and_torn_ones_drawn_again(generator, whole, tmp_path, monkeypatch):
    drawing = sample_videos(
        generator, ITEMS, tmp_path / "round_01" / "sample", root=tmp_path, version="G_1", round_number=1, batch_size=1
    )
    for _ in range(6):
        next(drawing)
    drawing.close()  # two videos into the second shard
    seeds, sample = [], generator.sample
    monkeypatch.setattr(generator, "sample", lambda embeds, batch: (seeds.extend(batch), sample(embeds, batch))[1])
    assert draw(generator, tmp_path) == [4, 1, 1, 1, 1, 1]
    assert seeds == [item.seed for item in ITEMS[4:]]
    assert contents(tmp_path) == contents(whole)
    assert draw(generator, tmp_path) == [4, 4, 1] and len(seeds) == 5


def test_the_order_of_items_changes_no_bit(generator, tmp_path):
    draw(generator, tmp_path / "one", batch_size=5)
    draw(generator, tmp_path / "two", ITEMS[::-1], batch_size=5)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_two_processes_draw_what_one_draws(generator, whole, tmp_path):
    done = [draw(generator, tmp_path, process=process, processes=2) for process in (1, 0)]
    assert list(map(sum, done)) == [4, 5]
    assert contents(tmp_path) == contents(whole)


def test_more_processes_than_shards(generator, tmp_path):
    assert draw(generator, tmp_path, process=3, processes=4) == []
    assert contents(tmp_path) == {}

"""Latents that nobody reads are pruned, in steps that may be stopped; what is asked for later is drawn again."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generators import kept_latents, load_generator
from generators.kept_latents import prune_latents, restore_latents
from generators.sampling import SamplingItem, read_samples, sample_videos
from videoduet.records import Prompt

PROMPTS = [Prompt.of(f"a red circle moving {way} fast on a teal background") for way in ("left", "right", "up")]
ITEMS = [SamplingItem(prompt, index, 7 * index) for prompt in PROMPTS for index in range(3)]


@pytest.fixture(scope="module")
def generator(shipped_generator):
    return load_generator(shipped_generator, sampler={"steps": 1, "num_frames": 2})


def latents(root: Path) -> dict[tuple[str, int], torch.Tensor]:
    """By prompt and index, of the samples whose latents are there."""
    return {
        (sample.prompt_id, sample.index): load_file(sample.latents_path)["latents"][sample.index_in_shard]
        for sample in read_samples(root, root=root)
        if Path(sample.latents_path).exists()
    }


@pytest.fixture
def drawn(generator, tmp_path):
    """A folder of nine videos, and their latents: batches of two, the second shard with one video."""
    options = {"version": "G_0", "round_number": 0, "batch_size": 2}
    list(sample_videos(generator, ITEMS, tmp_path, root=tmp_path, **options))
    return tmp_path, latents(tmp_path)


def ids(root: Path, *places: int) -> set[str]:
    samples = read_samples(root, root=root)
    return {samples[place].id for place in places}


def restored(generator, root: Path, wanted: set[str]) -> int:
    prompts = {prompt.id: prompt for prompt in PROMPTS}
    return restore_latents(lambda: generator, root, wanted, prompts, root=root, batch_size=2, speed="auto")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.suffix == ".safetensors")


def test_what_is_kept_stays_as_it_was_and_the_rest_is_gone(drawn):
    root, before = drawn
    asked = {sample.id: (sample.prompt_id, sample.index) for sample in read_samples(root, root=root)}
    keep = ids(root, 1, 4, 5)
    prune_latents(root, keep, root=root)
    assert same(latents(root), {asked[each]: before[asked[each]] for each in keep})
    assert len(names(root)) == 1 and len(read_samples(root, root=root)) == 9
    files = {path: path.read_bytes() for path in root.glob("*.*")}
    prune_latents(root, keep, root=root)
    assert {path: path.read_bytes() for path in root.glob("*.*")} == files
    prune_latents(root, set(), root=root)
    assert names(root) == [] and len(read_samples(root, root=root)) == 9


def test_nothing_is_touched_where_all_are_kept_or_none_was_pruned(drawn, generator):
    root, before = drawn
    files = {path: path.stat().st_mtime_ns for path in root.glob("*.*")}
    assert restored(generator, root, ids(root, *range(9))) == 0
    prune_latents(root, ids(root, *range(9)), root=root)
    assert {path: path.stat().st_mtime_ns for path in files} == files and same(latents(root), before)


def test_latents_that_are_asked_for_later_are_drawn_again(drawn, generator, monkeypatch):
    root, before = drawn
    asked = {sample.id: (sample.prompt_id, sample.index) for sample in read_samples(root, root=root)}
    prune_latents(root, ids(root, 0, 2), root=root)
    wanted, batches, draw = ids(root, 2, 5, 8), [], generator.sample
    monkeypatch.setattr(generator, "sample", lambda embeds, seeds: (batches.append(seeds), draw(embeds, seeds))[1])
    assert restored(generator, root, wanted) == 2 and len(batches) == 2
    there = wanted | ids(root, 0)
    assert same(latents(root), {asked[each]: before[asked[each]] for each in there})
    assert restored(generator, root, wanted) == 0 and len(batches) == 2
    prune_latents(root, wanted, root=root)
    assert same(latents(root), {asked[each]: before[asked[each]] for each in wanted})


@pytest.mark.parametrize("step", ["write_tensors", "write_records", "_sweep"])
def test_stopped_at_any_step_it_goes_on(drawn, generator, monkeypatch, step):
    """Before each of the steps of each shard, in pruning and in drawing again."""
    root, before = drawn
    for keep, work in (
        (ids(root, 1, 8), lambda keep: prune_latents(root, keep, root=root)),
        (ids(root, 3, 8), lambda keep: restored(generator, root, keep)),
        (ids(root, 3), lambda keep: prune_latents(root, keep, root=root)),
    ):
        for stop_at in itertools.count():
            calls, real = itertools.count(), getattr(kept_latents, step)

            def stopped(*arguments, calls=calls, real=real, stop_at=stop_at, **named):
                if next(calls) == stop_at:
                    raise KeyboardInterrupt
                return real(*arguments, **named)

            with monkeypatch.context() as patched:
                patched.setattr(kept_latents, step, stopped)
                try:
                    work(keep)
                    break
                except KeyboardInterrupt:
                    continue
        asked = {sample.id: (sample.prompt_id, sample.index) for sample in read_samples(root, root=root)}
        found = latents(root)
        assert {asked[each] for each in keep} <= found.keys()
        assert all(torch.equal(found[name], before[name]) for name in found)
    named = {Path(sample.latents_path).name for sample in read_samples(root, root=root)}
    assert set(names(root)) <= named and len(found) == 1

"""A run that keeps the latents of its pairs alone ends as one that keeps all, and so does what is made of it later."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_loop import do, samples_of

from pipelines.loop.config import JudgeConfig
from pipelines.loop.latents import no_latents
from pipelines.loop.run import Run
from videoduet.records import PreferencePair
from videoduet.store import content_hash, read_json, read_records


def aligned(run: Run) -> bytes:
    do(run, "align", 0)
    return (run.folder("align", 0) / "adapter" / "adapter_model.safetensors").read_bytes()


def there(root: Path) -> set[str]:
    return {sample.id for sample in samples_of(root, "sample", 0) if Path(sample.latents_path).exists()}


def sides(root: Path) -> set[str]:
    pairs = read_records(PreferencePair, root / "round_00" / "rank" / "pairs.parquet")
    return {side for pair in pairs for side in (pair.chosen_id, pair.rejected_id)}


def hashes_fit(folder: Path) -> bool:
    files = read_json(folder / "done.json")["files"]
    return files == {name: content_hash(folder / name) for name in files} and len(files) >= 2


@pytest.fixture
def pruned(finished, tmp_path) -> Run:
    """The finished run, about to align on the latents of its pairs alone."""
    root = tmp_path / "run"
    shutil.copytree(finished.root, root)
    shutil.rmtree(root / "round_00" / "align")
    run = Run.open(root)
    run.config = replace(run.config, run_dir=str(root), keep_latents="pairs")
    return run


def test_the_latents_of_pairs_are_enough(finished, pruned):
    root = pruned.directory.root
    expected = (finished.root / "round_00" / "align" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert aligned(pruned) == expected
    assert there(root) == sides(root) and len(there(root)) == 8 and len(samples_of(root, "sample", 0)) == 12
    assert hashes_fit(root / "round_00" / "sample")


@pytest.mark.slow
def test_latents_that_were_not_kept_are_drawn_again(finished, pruned, tmp_path):
    """Another judge makes other pairs, and all is the same whether their latents were there or not."""
    root, expected = pruned.directory.root, aligned(pruned)
    config = replace(pruned.config, keep_latents="all", judge=JudgeConfig(factory="scripted_judges.ByName"))
    whole = tmp_path / "whole"
    shutil.copytree(finished.root, whole)
    ends = []
    for origin in (root, whole):
        sibling = Run.open(origin).directory.sibling("rank", config)
        run = Run(sibling, replace(config, run_dir=str(sibling.root)))
        do(run, "rank", 0)
        ends.append(aligned(run))
        assert there(sibling.root) >= sides(sibling.root) and sides(sibling.root) - sides(origin)
    assert ends[0] == ends[1] != expected
    assert there(root) == sides(root), "siblings share, and change nothing"


def test_no_latents_stay_of_what_is_only_looked_at(finished, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(finished.root / "score", root / "score")
    directory = Run.open(finished.root).directory.__class__(root)
    no_latents(root / "score", directory, kept="all")
    assert list(root.rglob("latents_*"))
    no_latents(root / "score", directory, kept="pairs")
    assert not list(root.rglob("latents_*")) and len(samples_of(root, "score")) == 6
    assert hashes_fit(root / "score")

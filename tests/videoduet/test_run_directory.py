"""The run directory: what is done, what may change between resumptions, what siblings share."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from videoduet.config import identity_fields, to_dict
from videoduet.errors import InputError
from videoduet.records import Prompt, Video
from videoduet.store import content_hash, read_json, write_json, write_records, write_tensors
from videoduet.workspace import RunDirectory


@dataclass(frozen=True)
class Training:
    beta: float = 1.0  # no metadata: it changes results
    micro_batch: int = field(default=8, metadata={"role": "execution"})


@dataclass(frozen=True)
class Config:
    seed: int = field(default=0, metadata={"role": "identity"})
    rounds: int = field(default=2, metadata={"role": "execution"})
    sizes: tuple[int, ...] = (1, 2)
    data: Path = Path("data.jsonl")
    align: Training = Training()


PHASE_OF = {"seed": "sample", "align": "align"}


def test_paths_of_phases(tmp_path):
    run = RunDirectory(tmp_path / "run")
    assert run.phase("rank", 3) == tmp_path / "run" / "round_03" / "rank"
    assert run.phase("score") == tmp_path / "run" / "score"


def test_a_phase_is_done_when_it_says_so_last(tmp_path):
    run = RunDirectory(tmp_path)
    phase = run.phase("sample", 0)
    write_records(phase / "samples.parquet", [Prompt.of("x")], Prompt)
    write_tensors(phase / "deep" / "latents.safetensors", {"latents": torch.zeros(2)})
    (phase / "log.jsonl").write_text("not hashed")
    assert not run.is_done(phase)
    run.finish(phase, samples=1, note=float("nan"))
    assert run.is_done(phase)
    assert read_json(phase / "done.json") == {
        "counts": {"samples": 1, "note": None},
        "files": {
            "deep/latents.safetensors": content_hash(phase / "deep" / "latents.safetensors"),
            "samples.parquet": content_hash(phase / "samples.parquet"),
        },
    }


def test_what_a_killed_writer_left_behind_is_swept_when_the_phase_is_done(tmp_path):
    run = RunDirectory(tmp_path)
    phase = run.phase("align", 0)
    write_tensors(phase / "adapter" / "weights.safetensors", {"w": torch.zeros(2)})
    write_tensors(phase / ".adapter.4242.tmp" / "weights.safetensors", {"w": torch.zeros(1)})
    (phase / ".summary.4242.tmp.json").write_text("{")
    run.finish(phase)
    assert list(read_json(phase / "done.json")["files"]) == ["adapter/weights.safetensors"]
    assert sorted(os.listdir(phase)) == ["adapter", "done.json"]


def test_identity_fields_are_all_that_are_not_execution():
    assert identity_fields(Config()) == {"seed": 0, "sizes": [1, 2], "data": "data.jsonl", "align.beta": 1.0}
    assert to_dict(Config())["align"] == {"beta": 1.0, "micro_batch": 8}


def test_the_same_config_and_execution_fields_are_welcome_and_rounds_may_grow(tmp_path):
    run = RunDirectory(tmp_path)
    run.adopt_config(Config(), PHASE_OF)
    run.adopt_config(Config(), PHASE_OF)
    run.adopt_config(replace(Config(), rounds=5, align=Training(micro_batch=1)), PHASE_OF)
    assert "rounds: 5" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("changed", "name", "old", "phase"),
    [
        (Config(seed=1), "seed", "0", "sample"),
        (Config(align=Training(beta=2.0)), "align.beta", "1.0", "align"),
        (Config(sizes=(1,)), "sizes", "[1, 2]", "sample"),  # a section that nobody listed touches everything
    ],
)
def test_a_changed_identity_field_is_refused_by_name_and_phase(tmp_path, changed, name, old, phase):
    run = RunDirectory(tmp_path)
    run.adopt_config(Config(), PHASE_OF)
    kept = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(InputError) as caught:
        run.adopt_config(changed, PHASE_OF)
    message = str(caught.value)
    assert f"{name} = {old}" in message and f"--from {phase}" in message and str(tmp_path) in message
    assert (tmp_path / "config.yaml").read_bytes() == kept


def a_run(root: Path) -> tuple[RunDirectory, list[str]]:
    run = RunDirectory(root)
    phases = ["round_00/sample", "round_00/align", "round_01/sample", "score"]
    for name in phases[:3]:
        write_json(run.root / name / "data.json", {"phase": name})
        if name != "round_01/sample":
            run.finish(run.root / name)
    return run, phases


def test_a_sibling_shares_earlier_phases_by_hard_link(tmp_path):
    run, phases = a_run(tmp_path / "run")
    sibling = run.sibling("align", phases, {"align.beta": "align"}, Config())
    assert sibling.root == tmp_path / "run_from_round_00_align_1"
    assert sibling.is_done(sibling.phase("sample", 0))
    assert os.path.samefile(sibling.root / "round_00/sample/data.json", run.root / "round_00/sample/data.json")
    assert not (sibling.root / "round_00/align").exists()


def test_the_same_sibling_is_gone_on_with_and_another_config_gets_its_own(tmp_path):
    run, phases = a_run(tmp_path / "run")
    write_json(run.root / "prompts.parquet", ["a"])
    first = run.sibling("align", phases, {}, Config())
    assert read_json(first.root / "prompts.parquet") == ["a"]
    write_json(first.root / "round_00/align/data.json", {"half": "done"})
    again = run.sibling("align", phases, {}, Config())
    assert again.root == first.root and (again.root / "round_00/align/data.json").exists()
    other = run.sibling("align", phases, {}, Config(align=Training(beta=2.0)))
    assert other.root == tmp_path / "run_from_round_00_align_2"
    assert sorted(os.listdir(tmp_path)) == ["run", "run_from_round_00_align_1", "run_from_round_00_align_2"]


def test_a_sibling_shares_only_what_is_done_and_can_start_in_a_later_round(tmp_path):
    run, phases = a_run(tmp_path / "run")
    sibling = run.sibling("score", phases, {}, Config())
    assert sibling.is_done(sibling.phase("align", 0))
    assert not (sibling.root / "round_01").exists()
    assert not (run.sibling("round_01/sample", phases, {}, Config()).root / "round_01").exists()


def test_a_sibling_cannot_change_what_it_shares(tmp_path):
    run, phases = a_run(tmp_path / "run")
    sibling = run.sibling("align", phases, {}, Config())
    write_json(sibling.root / "round_00/sample/data.json", {"phase": "changed"})
    assert read_json(run.root / "round_00/sample/data.json") == {"phase": "round_00/sample"}


def test_a_sibling_knows_what_was_quarantined(tmp_path):
    run, phases = a_run(tmp_path / "run")
    run.quarantine("round_00/sample/videos/x.mp4", "damaged")
    assert run.sibling("align", phases, {}, Config()).quarantined() == {"round_00/sample/videos/x.mp4"}


def test_an_unknown_phase_is_wrong_usage(tmp_path):
    run, phases = a_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"'train'.*round_00/align") as caught:
        run.sibling("train", phases, {}, Config())
    assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == ["run"]


def test_a_sibling_may_not_share_a_phase_that_its_config_changes(tmp_path):
    run, phases = a_run(tmp_path / "run")
    run.adopt_config(Config(), PHASE_OF)
    touched = run.touched_phases(Config(seed=3, align=Training(beta=2.0)), PHASE_OF)
    assert touched == {"seed": "sample", "align.beta": "align"}
    with pytest.raises(InputError, match=r"another seed.*--from sample") as caught:
        run.sibling("align", phases, touched, Config())
    assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == ["run"]
    assert run.sibling("sample", phases, touched, Config()).root.exists()


def test_a_field_may_be_listed_apart_from_its_section(tmp_path):
    run = RunDirectory(tmp_path)
    run.adopt_config(Config(), PHASE_OF)
    with pytest.raises(InputError, match="--from score"):
        run.adopt_config(Config(align=Training(beta=2.0)), {"align": "align", "align.beta": "score"})


def test_a_file_in_the_way_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=str(path)):
            RunDirectory(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_refused_by_name(tmp_path):
    tmp_path.chmod(0o500)
    try:
        for path in (tmp_path, tmp_path / "run"):
            with pytest.raises(InputError, match=str(path)):
                RunDirectory(path)
    finally:
        tmp_path.chmod(0o700)


def test_write_permission_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(InputError, match=r"cannot be written to.*--run_dir"):
        RunDirectory(tmp_path)


def test_quarantine_lists_each_file_once_with_its_reason(tmp_path):
    run = RunDirectory(tmp_path)
    assert run.quarantined() == set()
    for path, reason in (("a.mp4", "damaged"), ("b.mp4", "empty"), ("a.mp4", "again")):
        run.quarantine(path, reason)
    assert run.quarantined() == {"a.mp4", "b.mp4"}
    assert read_json(tmp_path / "quarantine.json")[0] == {"path": "a.mp4", "reason": "damaged"}


def test_videos_are_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory("run")
    assert run.absolute(Video(id="v", path="x/v.mp4")) == Video(id="v", path=str(tmp_path / "run" / "x" / "v.mp4"))
    assert run.absolute(Video(id="v", path="/data/v.mp4")).path == "/data/v.mp4"

"""A directory that adopts a config: what is done, what may change between resumptions, what is refused."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
import yaml

from videoduet.config import SCHEMA_VERSION, identity_fields, to_dict
from videoduet.errors import InputError
from videoduet.records import Prompt
from videoduet.store import content_hash, read_json, write_records, write_tensors
from videoduet.workspace import Workspace


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


def test_a_phase_is_done_when_it_says_so_last(tmp_path):
    run = Workspace(tmp_path)
    phase = tmp_path / "round_00" / "sample"
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
    run = Workspace(tmp_path)
    phase = tmp_path / "round_00" / "align"
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
    run = Workspace(tmp_path)
    run.adopt(Config(), "made")
    run.adopt(Config(), "made")
    run.adopt(replace(Config(), rounds=5, align=Training(micro_batch=1)), "made")
    assert "rounds: 5" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("changed", "name"), [(Config(seed=1), "seed"), (Config(align=Training(beta=2.0)), "align.beta")]
)
def test_the_answer_to_another_question_is_refused_by_the_name_of_what_differs(tmp_path, changed, name):
    directory = Workspace(tmp_path)
    directory.adopt(Config(), "drawn")
    kept = (tmp_path / "config.yaml").read_bytes()
    for refusing in (directory.check, directory.adopt):
        with pytest.raises(InputError, match=f"{tmp_path} was drawn with another {name}; give another --output"):
            refusing(changed, "drawn")
    assert (tmp_path / "config.yaml").read_bytes() == kept
    assert directory.changed(changed).keys() == {name}


def test_a_field_that_the_kept_config_is_too_old_to_have_had_its_default(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "align": {}}))
    assert Workspace(tmp_path).changed(Config()) == {}
    assert Workspace(tmp_path).changed(Config(align=Training(beta=2.0))) == {"align.beta": (1.0, 2.0)}


def test_a_config_of_a_newer_program_is_refused(tmp_path):
    directory = Workspace(tmp_path)
    directory.adopt(Config(), "made")
    file = tmp_path / "config.yaml"
    assert yaml.safe_load(file.read_text())["schema_version"] == SCHEMA_VERSION
    file.write_text(
        file.read_text().replace(f"schema_version: {SCHEMA_VERSION}", f"schema_version: {SCHEMA_VERSION + 1}")
    )
    with pytest.raises(InputError, match=r"config.yaml was written by a newer VideoDuet.*upgrade"):
        directory.check(Config(), "made")


def test_a_file_in_the_way_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=str(path)):
            Workspace(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_refused_by_name(tmp_path):
    tmp_path.chmod(0o500)
    try:
        for path in (tmp_path, tmp_path / "run"):
            with pytest.raises(InputError, match=str(path)):
                Workspace(path)
    finally:
        tmp_path.chmod(0o700)


def test_write_permission_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(InputError, match=r"cannot be written to.*--output"):
        Workspace(tmp_path)


def test_quarantine_lists_each_file_once_with_its_reason(tmp_path):
    run = Workspace(tmp_path)
    assert run.quarantined() == set()
    for path, reason in (("a.mp4", "damaged"), ("b.mp4", "empty"), ("a.mp4", "again")):
        run.quarantine(str(tmp_path / path), reason)
    assert run.quarantined() == {str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")}
    assert read_json(tmp_path / "quarantine.json")[0] == {"path": "a.mp4", "reason": "damaged"}

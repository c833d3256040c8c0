"""Checkpoints as trainers leave them: read where that runs nothing, else refused in one sentence."""

import sys
from types import ModuleType

import pytest
import torch

from generators.convert.state_dict import read_checkpoint
from videoduet.errors import InputError

STATE = {"a.weight": torch.ones(3)}


@pytest.fixture
def strangers(monkeypatch):
    """Makes an object of a class in a library that is not installed here."""

    def make(module: str, name: str) -> object:
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            inner = ".".join(parts[:length])
            monkeypatch.setitem(sys.modules, inner, ModuleType(inner))
        kind = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, kind)
        return kind()

    return make


def refusal(path) -> str:
    with pytest.raises(InputError) as refused:
        read_checkpoint(path)
    said = str(refused.value)
    assert str(path) in said and "\x1b" not in said and "\n" not in said and "weights_only" not in said
    return said


@pytest.mark.parametrize("name", ["state_dict", "module", "model"])
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("new", [True, False])
def test_what_is_tensors_alone_is_read(tmp_path, name, wrapper, new):
    kept = {name: {f"{wrapper}{key}": value for key, value in STATE.items()}, "step": 3}
    torch.save(kept, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert read_checkpoint(tmp_path / "a.pt").keys() == STATE.keys()


def test_one_name_in_a_wrapping_is_a_name(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").keys() == {"module.a", "b"}


@pytest.mark.parametrize(
    ("module", "name", "trainer"),
    [
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", "Lightning"),
        ("deepspeed.runtime.fp16.loss_scaler", "LossScaler", "DeepSpeed"),
        ("somebody.training", "Arguments", "a trainer"),
    ],
)
def test_a_trainers_own_objects_are_named(tmp_path, strangers, module, name, trainer):
    torch.save({"state_dict": STATE, "kept": strangers(module, name)}, tmp_path / "a.ckpt")
    said = refusal(tmp_path / "a.ckpt")
    assert f"{module}.{name}" in said and f"as {trainer} keeps" in said and "state_dict" in said


def test_a_directory_of_deepspeeds(tmp_path):
    assert "name the file" in refusal(tmp_path)
    (tmp_path / "zero_to_fp32.py").touch()
    assert "DeepSpeed" in refusal(tmp_path) and "zero_to_fp32.py . OUTPUT" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (b"hello", "cut short"),
        (b"<!DOCTYPE html>", "cut short"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n", "git-lfs pointer"),
        (b"\x80\x02cos\nsystem\n(S'true'\ntR.", "os.system"),
    ],
)
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_what_is_no_checkpoint(tmp_path, content, words, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(content)
    assert (words if suffix == "ckpt" or "lfs" in words else "cut short") in refusal(tmp_path / f"a.{suffix}")


def test_a_checkpoint_that_is_cut_short(tmp_path):
    torch.save({"state_dict": STATE}, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for share in (0.2, 0.5, 0.9):
        (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
        assert "cut short" in refusal(tmp_path / "cut.pt")

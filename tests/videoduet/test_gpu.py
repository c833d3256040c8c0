"""What a GPU can do is asked for, not supposed."""

import os
import subprocess
import sys

import pytest
import torch

from videoduet.gpu import kernels_run


@pytest.fixture(autouse=True)
def forgotten():
    kernels_run.cache_clear()
    yield
    kernels_run.cache_clear()


def test_what_stands_in_the_way_of_kernels_is_said_once(capsys):
    assert not kernels_run(torch.device("cpu"))
    assert not kernels_run(torch.device("cpu"))
    assert capsys.readouterr().err.count("Triton's kernels cannot be used here") == 1


def test_without_triton_there_are_none(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "videoduet.probe_kernel", raising=False)
    assert not kernels_run(torch.device("cpu"))
    assert "ModuleNotFoundError" in capsys.readouterr().err


@pytest.mark.slow
def test_where_they_run_they_do():
    pytest.importorskip("triton")
    code = "import torch; from videoduet.gpu import kernels_run; assert kernels_run(torch.device('cpu'))"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0

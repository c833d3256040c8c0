"""Environments for the tests: an empty one, one with a suite alone, and the real one of this machine, if any."""

import json
from pathlib import Path

import pytest

from evaluation.vbench.environment import environments_dir, installed

READY = installed("standard") is not None
real = pytest.mark.skipif(
    not READY, reason=f"no VBench environment in {environments_dir()} (python -m pipelines.setup_vbench)"
)
HERE = environments_dir()


def with_suite(folder: Path, rows: list[dict]) -> Path:
    """A folder of environments whose standard one holds nothing but a suite."""
    package = folder / "standard" / "lib" / "python3.11" / "site-packages" / "vbench"
    package.mkdir(parents=True)
    (package / "VBench_full_info.json").write_text(json.dumps(rows))
    return folder

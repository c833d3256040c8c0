"""What a user installs: one version, and a wheel that holds all that lies in the rooms."""

import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from source_tree import MAY_IMPORT, ROOT

import videoduet

NOT_SHIPPED = ("__pycache__", "work")


def contents(*rooms: str) -> set[str]:
    """Every file in the rooms, but for what is made in them and never kept."""
    found = (path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file())
    names = (path.relative_to(ROOT) for path in found)
    return {str(name) for name in names if not set(name.parts) & set(NOT_SHIPPED)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel, built from a copy (setuptools leaves its work beside the source)."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in MAY_IMPORT:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w"]
    subprocess.run([*command, output, "."], cwd=source, check=True)
    return zipfile.ZipFile(next(output.glob("*.whl")))


def test_the_wheel_holds_all_that_lies_in_the_rooms(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == contents(*MAY_IMPORT)
    assert {f"{room}/py.typed" for room in MAY_IMPORT} <= held


def test_the_wheel_names_its_version_and_its_command(wheel):
    information = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {videoduet.__version__}\n" in wheel.read(information).decode()
    scripts = wheel.read(information.replace("METADATA", "entry_points.txt")).decode()
    assert scripts.split() == ["[console_scripts]", "videoduet", "=", "pipelines.cli:main"]


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == videoduet.__version__
    assert citation["license"] == "Apache-2.0"

"""What a user installs: one version, and a wheel that holds all that lies in the rooms."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

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
def wheel_file(tmp_path_factory) -> Path:
    """The wheel, built from a copy (setuptools leaves its work beside the source)."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in MAY_IMPORT:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w"]
    subprocess.run([*command, output, "."], cwd=source, check=True)
    return next(output.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(wheel_file) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


@pytest.fixture(scope="module")
def installed(wheel_file, tmp_path_factory) -> Path:
    """Where the wheel is installed, apart from this checkout."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "-q", "--target"]
    subprocess.run([*command, target, wheel_file], check=True)
    return target


def videoduet_in(folder: Path, installed: Path, *arguments: str) -> str:
    """What the installed command says, given in ``folder``."""
    done = subprocess.run(
        [installed / "bin" / "videoduet", *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_wheel_holds_all_that_lies_in_the_rooms(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == contents(*MAY_IMPORT)
    assert {f"{room}/py.typed" for room in MAY_IMPORT} <= held


def test_the_wheel_names_its_version_and_its_command(wheel):
    information = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {videoduet.__version__}\n" in wheel.read(information).decode()
    scripts = wheel.read(information.replace("METADATA", "entry_points.txt")).decode()
    assert scripts.split() == ["[console_scripts]", "videoduet", "=", "pipelines.cli:main"]


@pytest.mark.slow
def test_the_wheel_plans_in_an_empty_folder(installed, tmp_path):
    where = subprocess.run(
        [sys.executable, "-c", "import pipelines; print(pipelines.__file__)"], cwd=tmp_path, capture_output=True,
        text=True, check=True, env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(installed)
    assert "usage: videoduet COMMAND" in videoduet_in(tmp_path, installed, "--help")
    assert "64 prompts × 8 videos × 2 rounds" in videoduet_in(tmp_path, installed, "run", "--plan")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_wheel_runs_in_an_empty_folder(installed, tmp_path):
    small = "--prompts.limit 4 --prompts.held_out_limit 2 --generator.videos_per_prompt 3 --refresh.training.steps 1"
    small += " --align.max_steps 2 --score.videos_per_prompt 1 --audit.clips 0"
    said = videoduet_in(tmp_path, installed, "run", *small.split())
    run = tmp_path / "runs" / "shapes_world"
    assert (run / "report.html").is_file() and (run / "final" / "generator").is_dir()
    assert "Done: " in said and "Three things to do next:" in said


def test_the_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == videoduet.__version__
    assert citation["license"] == "Apache-2.0"

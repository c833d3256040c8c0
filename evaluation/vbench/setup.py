"""How the environments of the real vbench package are made and checked, and which weights they still lack."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from evaluation.vbench.environment import (
    DETECTRON2,
    GRIT,
    NONCOMMERCIAL,
    TIERS,
    TierName,
    environments_dir,
    python_of,
    run_worker,
)
from evaluation.vbench.weights import WEIGHTS, missing_weights, weights_dir
from videoduet.errors import InputError
from videoduet.store import write_json


def set_up(
    tier: TierName,
    *,
    noncommercial: bool = False,
    python: str | None = None,
    detectron2: str = DETECTRON2,
    tell: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Make the environment of ``tier``, or go on with it, and check it; returns what
    :func:`evaluation.vbench.environment.installed` will.

    ``noncommercial`` installs pyiqa too. ``python`` is the interpreter to build on (None: one that fits is looked for).
    ``detectron2`` is what pip is given for it: an address, a folder or a wheel. Where it cannot be had, the full tier
    is left without the four dimensions that need it, and says so. Raises InputError where a step fails.
    """
    folder = environments_dir() / tier
    # pip comes last, so where it lacks the environment was left half made.
    if not python_of(tier).with_name("pip.exe" if os.name == "nt" else "pip").exists():
        base = python or find_python(TIERS[tier].pythons)
        tell(f"{tier}: a new environment in {folder}, on {base}")
        _run([base, "-m", "venv", str(folder)], "making the virtual environment", folder)
    (folder / "checked.json").unlink(missing_ok=True)
    plan = TIERS[tier]
    steps = [*plan.steps, *([plan.pyiqa] if noncommercial else [])]
    for number, step in enumerate(steps, start=1):
        tell(f"{tier}: step {number} of {len(steps)}: pip install {step}")
        _pip(tier, step.split())
    if tier == "full":
        tell(f"full: detectron2 from {detectron2}")
        try:
            _pip(tier, ["--no-build-isolation", "--no-deps", detectron2])
        except InputError as error:
            tell(f"full: {', '.join(GRIT)} will not be scored. {error} A copy from elsewhere: --detectron2 FOLDER.")
    found = check(tier)
    write_json(folder / "checked.json", found)
    return found


def find_python(versions: Sequence[str]) -> str:
    """An interpreter of one of ``versions``: this one, or one on the path. Raises InputError where there is none."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" in versions:
        return sys.executable
    for version in versions:
        path = shutil.which(f"python{version}")
        if path and subprocess.run([path, "-c", "import venv"], capture_output=True).returncode == 0:
            return path
    raise InputError(f"This environment needs Python {' or '.join(versions)}; install one, or name it with --python.")


def check(tier: TierName) -> dict[str, Any]:
    """Import every dimension's code in the tier's environment: ``versions``, and ``dimensions`` with None or a
    reason.
    """
    dimensions = list(TIERS[tier].dimensions)
    with tempfile.TemporaryDirectory() as scratch:
        found = run_worker(tier, {"kind": "check", "dimensions": dimensions}, Path(scratch) / "check")
    if "error" in found:
        raise InputError(f"The {tier} environment does not work: {found['error']}; remove {environments_dir() / tier}.")
    return found


def readiness(tier: TierName, found: Mapping[str, Any], noncommercial: bool) -> tuple[dict[str, str], list[str]]:
    """Each dimension's state in the environment of ``tier``, in words, and the dimensions that should load there and do
    not.

    ``found`` is what :func:`set_up` returned; ``noncommercial`` whether it was told so.
    """
    states: dict[str, str] = {}
    broken: list[str] = []
    for name, reason in found["dimensions"].items():
        if reason is None:
            absent = missing_weights(WEIGHTS[name], weights_dir())
            states[name] = "weights missing: " + ", ".join(item.path for item in absent) if absent else "ready"
        elif name == "imaging_quality" and not noncommercial:
            states[name] = f"left out: {NONCOMMERCIAL}; if yours is not commercial, add --noncommercial"
        else:
            states[name] = f"does not load: {reason}"
            if name not in GRIT:
                broken.append(name)
    return states, broken


def weights_table() -> Table:
    """A terminal's table of each file of weights: for which dimensions, whether it is there, how large, from where."""
    needed: dict[tuple[str, str, str, bool], list[str]] = {}
    for name, files in WEIGHTS.items():
        for item in files:
            key = (item.path, item.size(), item.address, not missing_weights((item,), weights_dir()))
            needed.setdefault(key, []).append(name)
    shown = Table("put it at", "there", "size", "for", "from", title=f"Weights, below {weights_dir()}")
    for (path, size, address, there), names in needed.items():
        shown.add_row(path, "yes" if there else "no", size, ", ".join(names), escape(address))
    shown.add_row("(nothing)", "yes", "", "temporal_flickering of your own videos", "")
    shown.caption = (
        "Set VBENCH_CACHE_DIR for another folder. Nothing is downloaded: a dimension whose weights are missing is not "
        "scored. Official temporal_flickering also needs raft-things.pth, for its filter of moving videos."
    )
    return shown


def _pip(tier: TierName, arguments: Sequence[str]) -> None:
    command = [str(python_of(tier)), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    _run(command, f"pip install {' '.join(arguments)}", environments_dir() / tier)


def _run(command: Sequence[str], what: str, folder: Path) -> None:
    """Run a step of the set-up; what it prints goes to setup.log, and its last error into the message."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "setup.log", "ab") as log:
        start = log.tell()
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    if code == 0:
        return
    with open(folder / "setup.log", "rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").splitlines()
    telling = [line.strip() for line in lines if line.lower().lstrip().startswith(("error", "fatal"))]
    reason = next(iter(telling or lines[-1:]), "it printed nothing")
    raise InputError(
        f"{what} failed: {reason} (all of it in {folder / 'setup.log'}); mend that, or put the packages where pip "
        "finds them, and run the same command again."
    )

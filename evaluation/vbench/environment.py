"""The environments in which the real vbench package runs: what is in them, where they lie, how a job runs there.

The package pins transformers 4.33, numpy 1 and an old timm, so it cannot live beside this project. Two tiers, each a
virtual environment of its own: *standard* scores eleven dimensions on current libraries, *full* has the package's own
pins and detectron2, for the four dimensions that detect objects and for scene. Nothing of them is imported here: a
worker script runs in them, and files go to and fro.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.weights import weights_dir
from videoduet.store import read_json, write_json

WORKER = Path(__file__).with_name("worker.py")
GRIT = ("object_class", "multiple_objects", "color", "spatial_relationship")
STANDARD = tuple(name for name in DIMENSIONS if name not in (*GRIT, "scene"))
SETUP = "python -m pipelines.setup_vbench"
DETECTRON2 = "git+https://github.com/facebookresearch/detectron2.git@02b5c4e295e990042a714712c21dc79b731e8833"
NONCOMMERCIAL = (
    "imaging_quality needs pyiqa, whose licence forbids commercial use (0.1.16: PolyForm Noncommercial 1.0.0; 0.1.10: "
    "CC BY-NC-SA 4.0)"
)
TierName = Literal["standard", "full"]


@dataclass(frozen=True)
class Tier:
    """An environment: the Python versions it runs on, and what pip is given, step by step (versions seen to work
    together).
    """

    pythons: tuple[str, ...]
    steps: tuple[str, ...]
    pyiqa: str
    dimensions: tuple[str, ...]


TIERS: dict[TierName, Tier] = {
    "standard": Tier(
        pythons=("3.11", "3.12", "3.13"),
        steps=(
            "torch==2.13.0 setuptools==80.10.2",
            "--no-deps torchvision==0.28.0 vbench==0.1.5",
            "numpy==2.4.6 pillow==13.0.0 decord==0.6.0 opencv-python-headless==5.0.0.93 tqdm==4.70.1 imageio==2.38.1 "
            "imageio-ffmpeg==0.8.1 scipy==1.17.1 ftfy==6.3.1 regex==2026.11.15 easydict==1.14 omegaconf==2.4.0 "
            "einops==0.8.2 requests==2.34.2 pyyaml==6.0.3 packaging==26.3 timm==1.0.12 transformers==5.23.0",
            "--no-build-isolation openai-clip==1.0.1",
        ),
        pyiqa="--no-deps pyiqa==0.1.16",
        dimensions=STANDARD,
    ),
    "full": Tier(
        pythons=("3.11", "3.10"),
        steps=(
            "torch==2.13.0 setuptools==80.10.2 wheel==0.48.0",
            "--no-deps torchvision==0.28.0 vbench==0.1.5 lvis==0.5.3",
            "numpy==1.26.4 pillow==13.0.0 decord==0.6.0 opencv-python-headless==4.11.0.86 tqdm==4.70.1 imageio==2.38.1 "
            "scipy ftfy==6.3.1 regex==2026.11.15 easydict==1.14 omegaconf==2.4.0 einops==0.8.2 requests==2.34.2 "
            "pyyaml==6.0.3 packaging==26.3 timm==1.0.12 transformers==4.33.2 tokenizers==0.13.3 fairscale==0.4.13 "
            "fvcore==0.1.5.post20221221 iopath==0.1.10 boto3==1.44.5 pycocotools==2.0.11 pycocoevalcap==1.2 "
            "matplotlib cloudpickle hydra-core",
            "--no-build-isolation openai-clip==1.0.1",
        ),
        pyiqa="--no-deps pyiqa==0.1.10",
        dimensions=tuple(DIMENSIONS),
    ),
}


def environments_dir() -> Path:
    """Where the environments lie: ``$VIDEODUET_VBENCH``, else ``~/.cache/videoduet/vbench``."""
    return Path(os.environ.get("VIDEODUET_VBENCH") or Path.home() / ".cache" / "videoduet" / "vbench")


def python_of(tier: TierName) -> Path:
    """The interpreter of a tier's environment."""
    folder = environments_dir() / tier
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed(tier: TierName) -> dict[str, Any] | None:
    """What the check after the installation found (``versions``; ``dimensions``: None, or why it does not import);
    None where the tier is not set up.
    """
    file = environments_dir() / tier / "checked.json"
    return read_json(file) if file.is_file() and python_of(tier).exists() else None


def suite_path() -> Path:
    """The prompt suite in the package of the first tier that is there (a path that does not exist where none is)."""
    for tier in TIERS:
        found = sorted((environments_dir() / tier).glob("lib/python3*/site-packages/vbench/VBench_full_info.json"))
        if found:
            return found[0]
    return environments_dir() / "standard" / "VBench_full_info.json"


def tier_for(dimension: str) -> tuple[TierName | None, str]:
    """The tier that can score ``dimension``, and else why none can."""
    tiers: list[TierName] = [tier for tier, plan in TIERS.items() if dimension in plan.dimensions]
    reasons: list[str] = []
    for tier in tiers:
        if (found := installed(tier)) is None:
            continue
        if (reason := found["dimensions"].get(dimension)) is None:
            return tier, ""
        reasons.append(f"in the {tier} environment it does not load: {reason}")
    if dimension == "imaging_quality" and reasons:
        reasons.append(f"{NONCOMMERCIAL}; if yours is not commercial, run: {SETUP} --noncommercial")
    if any("'detectron2'" in reason for reason in reasons):
        reasons.append(f"with a copy of {DETECTRON2.removeprefix('git+')} run: {SETUP} --tier full --detectron2 FOLDER")
    option = "" if tiers[0] == "standard" else " --tier full"
    return None, "; ".join(reasons) or f"VBench's environment is not set up; run: {SETUP}{option}"


def run_worker(tier: TierName, job: dict[str, Any], stem: Path, gpu: int | None = None) -> dict[str, Any]:
    """Run one job in a tier's environment and return its answer; ``{"error": sentence}`` where it failed.

    Beside ``stem`` it leaves ``.job.json``, ``.answer.json`` and ``.log``, what the package printed. ``gpu`` is the one
    device that the job sees (None: as this process).
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    weights, answer, log = weights_dir(), Path(f"{stem}.answer.json"), Path(f"{stem}.log")
    weights.mkdir(parents=True, exist_ok=True)
    write_json(f"{stem}.job.json", {**job, "answer": str(answer.absolute()), "weights": str(weights.absolute())})
    answer.unlink(missing_ok=True)
    # No download by the way, and nothing of this interpreter's own set-up.
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VBENCH_CACHE_DIR": str(weights.absolute())}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | offline
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        environment.pop(name, None)
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
    # In the folder of weights, since the package looks for bert-base-uncased/ beside it.
    command = [str(python_of(tier).absolute()), "-I", str(WORKER), str(Path(f"{stem}.job.json").absolute())]
    with open(log, "wb") as output:
        code = subprocess.run(command, cwd=weights, env=environment, stdout=output, stderr=subprocess.STDOUT).returncode
    if answer.is_file():
        return json.loads(answer.read_text(encoding="utf-8"))
    return {"error": f"the worker ended with exit code {code}: {_last_line(log)} (all of it in {log})"}


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"

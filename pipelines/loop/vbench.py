"""VBench in the loop: dimensions of the held-out videos of the base and every round, and the alarm of still videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.vbench.suite import VideoFile
from evaluation.vbench.versions import compare_versions
from generators.sampling import read_samples
from pipelines.loop.run import Run
from videoduet.errors import InputError


def score_vbench(run: Run, versions: Sequence[str]) -> dict[str, Any]:
    """What the score's summary keeps of VBench: see :func:`evaluation.vbench.versions.compare_versions`."""
    settings = run.config.score.vbench
    if not settings.dimensions:
        return {"available": False, "reason": "it is turned off (score.vbench.dimensions is empty)."}
    root, output = run.directory.root, run.directory.phase("score")
    texts, quarantined = {prompt.id: prompt.text for prompt in run.held_out_prompts}, run.directory.quarantined()
    files = {
        version: [
            VideoFile(Path(sample.video_path), texts[sample.prompt_id], sample.index)
            for sample in read_samples(output, version, root=root)
            if sample.video_path not in quarantined
        ]
        for version in versions
    }
    return compare_versions(
        files, settings.dimensions, output / "vbench", root=root, tolerance=settings.dynamic_degree_tolerance,
        processes=settings.processes, gpus=torch.cuda.device_count(),
    )  # fmt: skip


def stop_if_still(run: Run, found: Mapping[str, Any]) -> None:
    """Raises InputError where the alarm is raised and the config says to stop on it."""
    if found.get("alarm") and run.config.score.vbench.when_still == "stop":
        raise InputError(
            f"Stopped before the export: {found['alarm']} Look at the videos (python -m pipelines.report "
            f"{run.directory.root}); to go on all the same, add --score.vbench.when_still warn."
        )

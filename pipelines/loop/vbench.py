"""VBench in the loop: dimensions of the held-out videos of the base and every round, and the alarm of still videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.vbench.suite import VideoFile
from evaluation.vbench.versions import compare_versions
from pipelines.loop.config import VBenchConfig
from videoduet.errors import InputError
from videoduet.records import Prompt, Sample


def score_vbench(
    drawn: Mapping[str, Sequence[Sample]], prompts: Sequence[Prompt], output: Path, config: VBenchConfig, root: Path
) -> dict[str, Any]:
    """What the score's summary keeps of VBench: see :func:`evaluation.vbench.versions.compare_versions`.

    ``drawn`` are each version's readable samples, the base's first; paths in the summary are relative to ``root``.
    """
    if not config.names:
        return {"available": False, "reason": "it is turned off (score.vbench.dimensions is empty)."}
    texts = {prompt.id: prompt.text for prompt in prompts}
    files = {
        version: [VideoFile(Path(sample.video_path), texts[sample.prompt_id], sample.index) for sample in samples]
        for version, samples in drawn.items()
    }
    return compare_versions(
        files, config.names, output / "vbench", root=root, tolerance=config.dynamic_degree_tolerance,
        processes=config.processes, gpus=torch.cuda.device_count(),
    )  # fmt: skip


def stop_if_still(found: Mapping[str, Any], config: VBenchConfig, root: Path) -> None:
    """Raises InputError where the alarm is raised and the config says to stop on it."""
    if found.get("alarm") and config.when_still == "stop":
        raise InputError(
            f"Stopped before the export: {found['alarm']} Look at the videos (python -m pipelines.report {root}); to "
            "go on all the same, add --score.vbench.when_still warn."
        )

"""What a large suite costs beside its scoring: ``python -m benchmarks.vbench_suite [--videos 10000]``.

Of as many videos as asked for (links to one real mp4 file, five of each prompt, the prompts shared out over the 16
dimensions) it times listing the suite, the first check that every file can be decoded, what the same command does first
when it goes on after a stop, and the aggregation with 1,000 bootstrap resamples. No video is drawn or scored.
"""

import json
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import CLI
from rich.table import Table

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.config import VBenchEvaluationConfig
from evaluation.vbench.drawing import draw
from evaluation.vbench.results import save, summarise
from evaluation.vbench.scoring import DimensionResult, readable
from evaluation.vbench.statistics import ScoredVideo, mean
from evaluation.vbench.suite import VIDEOS_PER_PROMPT, SuiteVideo, read_folder, read_suite, suite_videos
from pipelines.report.vbench import write_page
from videoduet.progress import console
from videoduet.records import Prompt, Sample, SamplerSettings
from videoduet.store import write_records
from videoduet.video import write_video

SETTINGS = SamplerSettings(steps=1, guidance_scale=1.0, fps=8, num_frames=8, height=32, width=32)


def timed(shown: Table, what: str, step: Callable[[], Any]) -> Any:
    """Run ``step`` twice, for its seconds and for its peak of Python's and numpy's memory; returns what it returns."""
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    tracemalloc.start()
    result = step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    shown.add_row(what, f"{seconds:.2f}", f"{peak / 2**20:.0f}")
    return result


def write_suite(path: Path, videos: int) -> None:
    """A suite of made-up prompts, each of one dimension."""
    prompts, names = videos // VIDEOS_PER_PROMPT, list(DIMENSIONS)
    rows = [{"prompt_en": f"prompt {n}, with a comma.", "dimension": [names[n % len(names)]]} for n in range(prompts)]
    path.write_text(json.dumps(rows))


def pretend_drawn(output: Path, wanted: list[SuiteVideo]) -> None:
    """Leave what a finished drawing of ``wanted`` leaves: the plan, the samples' records, a file for each video."""
    samples = output / "samples"
    (samples / "videos").mkdir(parents=True)
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    write_video(samples / "clip.mp4", frames, 8)
    records = []
    for number, video in enumerate(wanted):
        path = samples / "videos" / f"{number}.mp4"
        os.link(samples / "clip.mp4", path)
        sample = Sample(
            id=str(number), prompt_id=Prompt.of(video.prompt, "VBench").id, index=video.index, seed=number,
            generator="plan000", round=0, settings=SETTINGS, video_path=str(path),
            latents_path=str(samples / "latents.safetensors"), index_in_shard=number,
        )  # fmt: skip
        records.append(sample)
    write_records(samples / "plan_000.parquet", wanted, SuiteVideo)
    write_records(samples / "samples_plan000_00000.parquet", records, Sample, root=samples)


def list_videos(suite: Path) -> list[SuiteVideo]:
    """The videos that the suite in a file wants, five of each prompt."""
    return suite_videos(read_suite(suite), VIDEOS_PER_PROMPT, flickering=VIDEOS_PER_PROMPT)


def scores(suite: Path) -> dict[str, DimensionResult]:
    """Made-up results of every video."""
    random, found = np.random.default_rng(0), {}
    for name in DIMENSIONS:
        rows = [row for row in read_suite(suite) if name in row.dimensions]
        videos = [
            ScoredVideo(video.prompt, video.index, float(random.uniform(0.2, 0.8)), 1)
            for video in suite_videos(rows, flickering=VIDEOS_PER_PROMPT)
        ]
        found[name] = DimensionResult(name, mean(videos), videos)
    return found


def write(output: Path, summary: dict[str, Any], results: dict[str, DimensionResult]) -> None:
    """Write all that an evaluation leaves: figures, tables, the page."""
    save(output, summary, results)
    write_page(output, summary)


def main(videos: int = 10_000, resamples: int = 1000) -> None:
    """Time each step and print the table.

    Args:
        videos: How many.
        resamples: Bootstrap resamples of the aggregation.
    """
    shown = Table("step", "seconds", "peak, MB", title=f"{videos} videos")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        suite, output, checked = root / "suite.json", root / "out", root / "checked.json"
        write_suite(suite, videos)
        wanted = timed(shown, "list the suite's videos", lambda: list_videos(suite))
        pretend_drawn(output, wanted)
        config = VBenchEvaluationConfig(generator="none", output=str(output))
        folder = draw(config, wanted)
        started = time.perf_counter()
        readable(read_folder(folder)[0], checked)
        shown.add_row("decode every video, the first time", f"{time.perf_counter() - started:.2f}", "")
        timed(shown, "go on: what is drawn and named", lambda: draw(config, wanted))
        timed(shown, "go on: what is checked", lambda: readable(read_folder(folder)[0], checked))
        results = scores(suite)
        summary = {"name": "", "base": None, "problems": [], "made_with": {}}
        summary |= timed(shown, "totals and intervals", lambda: summarise(results, complete=True, resamples=resamples))
        timed(shown, "write results", lambda: write(output, summary, results))
    console.print(shown)


if __name__ == "__main__":
    CLI(main, as_positional=False)

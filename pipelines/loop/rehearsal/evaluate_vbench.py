"""An evaluation on VBench at its smallest: two prompts, a video each, one dimension, a kill while they are drawn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.config import VBenchEvaluationConfig
from evaluation.vbench.drawing import loaded
from evaluation.vbench.environment import suite_path
from evaluation.vbench.evaluation import evaluate
from evaluation.vbench.results import read_base
from evaluation.vbench.scoring import unscorable
from evaluation.vbench.suite import read_folder, read_suite, select, suite_videos, write_index
from pipelines.loop.rehearsal import checks
from pipelines.loop.rehearsal.steps import Rehearsal, described, killed_and_forgotten, scratch, size_of, whole_batch
from videoduet.errors import InputError
from videoduet.processes import device

VIDEOS = 2
KNOBS = {"": "lower batch_size, or give dtype bfloat16"}


def rehearse(config: VBenchEvaluationConfig) -> Rehearsal:
    """What the evaluation would meet. Nothing is written into its output, and what is written beside it is removed.

    Raises InputError in one of several processes.
    """
    checks.one_process()
    found = Rehearsal(knobs=KNOBS)
    found.problems += checks.unwritable(config.output, "--output")
    if config.generator:
        found.problems += [
            *checks.held(Path(config.output) / "samples", config, "drawn"),
            *checks.without_gpu("generator", config.generator),
            *checks.half_without_gpu({"dtype": config.dtype}),
        ]
    with scratch(config.output) as folder:
        VBenchRehearsal(config, folder, found).do()
    return found


class VBenchRehearsal:
    """The steps of a rehearsal of ``config`` in ``folder``, which are noted in ``found``."""

    def __init__(self, config: VBenchEvaluationConfig, folder: Path, found: Rehearsal):
        self.config, self.folder, self.found = config, folder, found
        self.output = folder / "output"
        self.official = bool(config.generator or config.official)
        self.names = list(config.dimensions or DIMENSIONS)
        # Prompts of a dimension that is scored, where there is one.
        self.scorable = [name for name in self.names if unscorable(name, self.official) is None]
        self.small = replace(
            config, output=str(self.output), base=None, dimensions=(self.scorable or self.names)[:1],
            prompts_per_dimension=VIDEOS, videos_per_prompt=1, flickering_videos=1, processes=1,
        )  # fmt: skip
        self.generator: Any = None
        self.seconds = 0.0

    def do(self) -> None:
        """All of them, until one fails that others stand on."""
        self.found.attempt("looking at what scores", self.look)
        if self.config.videos:
            if self.found.attempt("reading the videos", self.read) is None:
                return
        elif not self.draw():
            return
        if self.scorable or self.config.generator:
            self.found.attempt("drawing and scoring" if self.config.generator else "scoring", self.score)
        if self.config.generator:
            self.reckon()

    def look(self) -> str:
        """Suite, base and environments: what of the dimensions can be scored."""
        reasons = {name: unscorable(name, self.official) for name in self.names}
        self.found.notes += checks.not_scored({name: why for name, why in reasons.items() if why})
        if self.config.base:
            read_base(self.config.base)
        if not self.scorable:
            raise InputError(f"none of {len(self.names)} dimensions could be scored: {reasons[self.names[0]]}.")
        return f"{len(self.scorable)} of {len(self.names)} dimensions can be scored"

    def read(self) -> str:
        """The folder, and two of its videos put aside."""
        files, others = read_folder(self.config.videos or "")
        (self.folder / "videos").mkdir()
        write_index(self.folder / "videos", files[:VIDEOS])
        self.small = replace(self.small, videos=str(self.folder / "videos"))
        return f"{len(files)} videos" + (f"; {len(others)} files are no mp4 files" if others else "")

    def draw(self) -> bool:
        """Load the generator, draw a batch as large as it will be, and kill what draws; whether that could be done."""
        if self.found.attempt("loading the generator", self.load) is None:
            return False
        drawn = self.found.attempt("drawing a whole batch", self.batch)
        self.generator = None
        if drawn is None or self.found.attempt("reading the suite", self.suite) is None:
            return False
        self.found.attempt("a kill in drawing", self.kill)
        return True

    def load(self) -> str:
        """The generator in its precision, with its adapter."""
        self.generator = loaded(self.config, device())
        return described({**self.generator.pipeline.components, self.generator.denoiser_name: self.generator.denoiser})

    def batch(self) -> str:
        """A batch of the size that all but the last will have."""
        self.seconds, told = whole_batch(self.generator, self.config.batch_size, self.config.speed)
        return told

    def suite(self) -> str:
        """How many videos the evaluation wants."""
        return f"{self.wanted()} videos are wanted"

    def wanted(self) -> int:
        """The same as a number."""
        config = self.config
        rows = select(read_suite(suite_path()), self.names, config.prompts_per_dimension, config.subset_seed)
        return len(suite_videos(rows, config.videos_per_prompt, config.flickering_videos))

    def kill(self) -> str:
        """An evaluation in a process of its own, killed once a video is there."""
        return killed_and_forgotten(
            "pipelines.evaluate_vbench", self.small, self.output,
            lambda: any(self.output.glob("samples/videos/*.mp4")), "once a video was there",
        )  # fmt: skip

    def score(self) -> str:
        """The same evaluation, gone on with to its end."""
        summary = evaluate(self.small) or {}
        self.found.notes += summary["problems"]
        (name, figures), *_ = summary["dimensions"].items()
        if "not_scored" not in figures:
            return f"{name} {figures['raw']:.3f} on {figures['videos']} videos; most of its time is the package's start"
        if self.scorable:
            self.found.problems.append(f"{name} is not scored: {figures['not_scored']}.")
        return f"{name} is not scored"

    def reckon(self) -> None:
        """Hours and disk of all videos; how long they are scored is not known from two."""
        if not self.seconds or not (videos := list(self.output.glob("samples/videos/*.mp4"))):
            return
        wanted = self.wanted()
        self.found.reckon({"drawing": wanted * self.seconds / 3600}, f"Drawing {wanted:,} videos")
        kept = size_of((self.output / "samples").rglob("*")) / len(videos)
        self.found.need("videos and latents", wanted * kept, self.config.output, "--output")

"""What can be asked of an evaluation on VBench."""

from dataclasses import dataclass
from typing import Any

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.suite import FLICKERING_VIDEOS, VIDEOS_PER_PROMPT
from generators.config import Speed, check_sampler
from videoduet.config import Precision, at_least, execution, identity, required
from videoduet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class VBenchEvaluationConfig:
    """Score a generator or a folder of videos on VBench, with the real package. The same command resumes.

    Attributes:
        generator: diffusers directory or hub id of a text-to-video model, which draws the official prompt suite.
        adapter: A LoRA in PEFT's format to put in force.
        videos: Instead of a generator: a folder of mp4 files called PROMPT-0.mp4, or with a videos.csv (columns video,
            prompt, index), as pipelines.sample writes it.
        official: The videos of the folder are those of the official suite, under their official names.
        output: Where videos and results are kept: results.json, results.csv, results.html, scores_by_video.csv.
        base: The --output of an earlier evaluation to compare with: the base checkpoint's.
        dimensions: Score these only (None: all 16).
        prompts_per_dimension: Use that many prompts of each dimension (None: all). There is no total then.
        videos_per_prompt: Videos of each prompt; the official suite has 5.
        flickering_videos: Videos drawn of each prompt of temporal flickering, of which 5 that stand still count.
        subset_seed: Seed of the subset of prompts.
        seed: Each video's noise depends on this, its prompt and its index alone.
        batch_size: Videos drawn at once, across prompts.
        sampler: Overrides of the family's settings: steps, guidance_scale, fps, num_frames, height, width.
        dtype: Precision of the weights.
        speed: How videos are drawn, as pipelines.sample has it: auto, eager or compiled.
        processes: Dimensions scored at once, each in its own process.
        resamples: Bootstrap resamples of the prompts for the 95 % intervals.
        trust_pickles: Let weights files hold more than tensors. Such a file can run code when it is loaded: only for
            files whose source you trust. The published amt-s.pth (motion_smoothness) may need it.
    """

    generator: str | None = identity(None)
    adapter: str | None = identity(None)
    videos: str | None = identity(None)
    official: bool = identity(False)
    output: str = execution("")
    base: str | None = execution(None)
    dimensions: list[str] | None = execution(None)
    prompts_per_dimension: int | None = execution(None)
    videos_per_prompt: int = execution(VIDEOS_PER_PROMPT)
    flickering_videos: int = execution(FLICKERING_VIDEOS)
    subset_seed: int = execution(0)
    seed: int = identity(0)
    batch_size: int = identity(8)
    sampler: dict[str, Any] = identity(factory=dict)
    dtype: Precision = identity("float32")
    speed: Speed = identity("auto")
    processes: int = execution(1)
    resamples: int = execution(1000)
    trust_pickles: bool = execution(False)

    def __post_init__(self) -> None:
        if (self.generator is None) == (self.videos is None):
            raise InputError("Give either --generator, which draws the videos, or --videos, a folder.", exit_code=2)
        required(self, "output")
        check_sampler(self.sampler)
        if unknown := [name for name in self.dimensions or () if name not in DIMENSIONS]:
            known = ", ".join(DIMENSIONS)
            raise InputError(f"VBench has no dimension {unknown[0]}; choose among {known}.", exit_code=2)
        for name in ("videos_per_prompt", "flickering_videos", "batch_size", "processes", "prompts_per_dimension"):
            at_least(1, **{name: getattr(self, name)})
        at_least(0, resamples=self.resamples)

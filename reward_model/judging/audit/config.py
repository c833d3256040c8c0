"""The options of the audit's command."""

from dataclasses import dataclass, field
from typing import Any

from reward_model.judging.audit.card import check_names
from reward_model.judging.config import TINY, Backend, BatchSize, JudgingConfig, check_backend
from videoduet.config import Precision, at_least
from videoduet.errors import InputError
from videoduet.video import FrameSampling, Reader

CLIPS = 32
"""Clips asked about, of as many prompts, by default: enough to find each defect that benchmarks/audit.py makes."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Options of the audit.

    Attributes:
        judge: The judge, as pipelines.judge takes it: a transformers or PEFT directory or a hub id. The default is the
            tiny judge that ships.
        preset: What the judge is made for, as pipelines.judge takes it.
        adapter: A PEFT adapter to put on top.
        factory: The import path of a class with compare (module.Class), in place of a judge.
        arguments: What that class is called with.
        videos: Good videos to try the judge on: a folder, one that pipelines.sample wrote, or a list with the columns
            video, prompt (None: clips of shapes world).
        prompt: The text that the videos were made for, where a list does not say.
        votes: A table with the columns first, second, prompt, preferred (first, second or tie): what people said.
        clips: Clips to try, of as many prompts as there are.
        seed: Seed of what is done to them.
        require: Probes that must pass, by commas; else the exit code is 1.
        output: A directory for card.json and the page audit.html, with the pairs that the judge got wrong.
        num_frames: Frames shown of a video, evenly spaced (None: as many as the judge was trained with).
        frames: Frames shown by their rate: fps, min_frames, max_frames; goes before num_frames.
        max_pixels: The most pixels that a frame is shown with (None: as the judge was trained with).
        dtype: Precision of the weights.
        batch_size: Showings at once (auto: as many as fit into a GPU's free memory, 16 on a CPU).
        samples: Answers to each showing, of which the majority counts (1: one greedy answer).
        temperature: At which several samples are drawn.
        backend: What runs the model: transformers, vllm (installed beside), or server.
        server: URL of an OpenAI-compatible API for --backend server, as pipelines.judge takes it.
        concurrency: Requests to the server under way at once.
        cache: A directory where the server's answers are kept by the content of the question. Asking again then says
            nothing about the server.
        logprobs: Ask the server for probabilities, which some hosts refuse.
        reader: What decodes videos: pyav or decord (None: what VIDEODUET_READER in the environment says, else pyav).
    """

    judge: str = TINY
    preset: str | None = None
    adapter: str | None = None
    factory: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    videos: str | None = None
    prompt: str = ""
    votes: str | None = None
    clips: int = CLIPS
    seed: int = 0
    require: str = ""
    output: str | None = None
    num_frames: int | None = None
    frames: FrameSampling | None = None
    max_pixels: int | None = None
    dtype: Precision = "float32"
    batch_size: BatchSize = "auto"
    samples: int = 1
    temperature: float = 0.7
    backend: Backend = "transformers"
    server: str | None = None
    concurrency: int = 8
    cache: str | None = None
    logprobs: bool = True
    reader: Reader | None = None

    def __post_init__(self) -> None:
        at_least(2, clips=self.clips)
        check_names(self.required)
        if self.arguments and self.factory is None:
            raise InputError("arguments are given, but no factory; name the class with --factory.", exit_code=2)
        check_backend(self.preset, self.backend, self.judging.settings)

    @property
    def required(self) -> list[str]:
        """The probes that must pass."""
        return [name.strip() for name in self.require.split(",") if name.strip()]

    @property
    def judging(self) -> JudgingConfig:
        """How the judge is loaded."""
        return JudgingConfig(
            judge=self.judge, preset=self.preset, adapter=self.adapter, num_frames=self.num_frames, frames=self.frames,
            max_pixels=self.max_pixels, dtype=self.dtype, batch_size=self.batch_size, samples=self.samples,
            temperature=self.temperature, backend=self.backend, server=self.server, concurrency=self.concurrency,
            cache=self.cache, logprobs=self.logprobs, reader=self.reader,
        )  # fmt: skip

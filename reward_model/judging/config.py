"""How judging is set up: how answers are drawn, how a server is asked, and the options of the judge's command."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from reward_model.presets import preset_named
from reward_model.wordings import Shown
from videoduet.config import Precision, at_least, execution
from videoduet.errors import InputError
from videoduet.video import FrameSampling, Reader

Backend = Literal["transformers", "vllm", "server"]
BatchSize = int | Literal["auto"]
"""Showings at once; 'auto': as many as fit into a GPU's free memory, and 16 on a CPU."""
READ_AT_ONCE = 16384
"""Tokens of prompts that are read at once. More in one product of matrices is no faster, and takes memory."""
LOGITS_KEPT = 4
"""Copies of a row's logits in float32 that picking makes."""
TINY = "shapes_world/models/judge"


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn: greedily where ``samples`` is 1, else that many at ``temperature``, of which the majority
    counts.
    """

    samples: int = 1
    temperature: float = 0.7

    def __post_init__(self) -> None:
        if self.samples < 1 or not self.temperature > 0:
            raise InputError(f"{self} cannot be used; give samples >= 1 and temperature > 0.", exit_code=2)

    def __str__(self) -> str:
        return "greedy" if self.samples == 1 else f"{self.samples} samples at {self.temperature}"


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked.

    ``url`` is that of the API (``http://localhost:8000/v1``) and ``model`` what the server calls its model.
    ``concurrency`` requests are under way at most; one that fails in a way that may pass is tried ``retries`` times
    more, after ``backoff`` seconds, then twice as many, and so on, or when the server says. ``cache`` is a directory
    where answers are kept by the content of the question. ``logprobs`` asks for probabilities, which some hosts refuse.
    """

    url: str
    model: str
    api_key: str | None = None
    concurrency: int = 8
    retries: int = 5
    backoff: float = 1.0
    timeout: float = 300.0
    cache: str | Path | None = None
    logprobs: bool = True

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise InputError(f"Server {self.url} is no URL; give one like http://localhost:8000/v1.", exit_code=2)
        if self.concurrency < 1 or self.retries < 0 or not self.timeout > 0 or self.backoff < 0:
            raise InputError(
                "A server needs concurrency >= 1, retries >= 0, backoff >= 0 and timeout > 0.", exit_code=2
            )

    @classmethod
    def at(
        cls, url: str | None, model: str, concurrency: int, cache: str | None, logprobs: bool
    ) -> "ServerSettings | None":
        """How the server at ``url`` is asked, with the key in the environment; None where there is no server."""
        if url is None:
            return None
        return cls(url, model, api_key(), concurrency, cache=cache, logprobs=logprobs)


def rates_in_numbers(path: str | Path) -> bool:
    """Whether the model in a directory on this disk is an AIGV-Assessor, as its config.json says; of a hub id it is
    not known.
    """
    try:
        return "score_dimensions" in json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def api_key() -> str | None:
    """The key in the environment: JUDGE_API_KEY, or OPENAI_API_KEY."""
    return os.environ.get("JUDGE_API_KEY") or os.environ.get("OPENAI_API_KEY")


def check_backend(preset: str | None, backend: Backend, settings: ServerSettings | None) -> None:
    """Raises InputError where there is no such preset, or backend and server do not go together."""
    if preset_named(preset).numbers and backend != "transformers":
        raise InputError(
            f"Preset {preset} is of a judge that answers in numbers, which no {backend} gives; give backend "
            "transformers.",
            exit_code=2,
        )
    if (backend == "server") != (settings is not None):
        raise InputError(
            "Backend server and a server's URL belong together (--backend server --server URL); give both or neither.",
            exit_code=2,
        )


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Which judge is loaded, and how it is asked.

    Attributes:
        judge: Qwen2.5-VL, Qwen3-VL or InternVL: a transformers directory, a PEFT directory or a hub id. The default is
            the tiny judge that ships, which knows nothing but shapes world.
        preset: What the judge is made for: vqinsight-comp, vqinsight-aigcvideo, vqinsight-naturalvideo (with
            --judge ByteDance/Q-Insight), vqathinker, vqathinker-train, aigv-assessor, or general.
        adapter: A PEFT adapter to put on top.
        prompt: The text that the videos were made for, where a list does not say.
        num_frames: Frames shown of a video, evenly spaced (None: as many as the judge was trained with).
        frames: Frames shown by their rate: fps, min_frames, max_frames; goes before num_frames.
        max_pixels: The most pixels that a frame is shown with (None: as the judge was trained with).
        dtype: Precision of the weights.
        batch_size: Showings at once, two for each pair (auto: as many as fit into a GPU's free memory, 16 on a CPU).
        samples: Answers to each showing, of which the majority counts (1: one greedy answer).
        temperature: At which several samples are drawn.
        backend: What runs the model: transformers, vllm (installed beside), or server.
        server: URL of an OpenAI-compatible API (http://localhost:8000/v1) for --backend server, where --judge is what
            it calls its model; the key is taken from the environment (JUDGE_API_KEY or OPENAI_API_KEY).
        concurrency: Requests to the server under way at once.
        cache: A directory where the server's answers are kept by the content of the question.
        logprobs: Ask the server for probabilities, which some hosts refuse.
        reader: What decodes videos: pyav or decord (None: what VIDEODUET_READER in the environment says, else pyav).
    """

    judge: str = TINY
    preset: str | None = None
    adapter: str | None = None
    prompt: str = ""
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
        at_least(1, batch_size=None if self.batch_size == "auto" else self.batch_size, samples=self.samples)
        at_least(1, num_frames=self.num_frames, max_pixels=self.max_pixels)
        check_backend(self.preset, self.backend, self.settings)

    @property
    def shown(self) -> Shown:
        """What is shown in place of what the judge's prompts say."""
        return Shown(num_frames=self.num_frames, frames=self.frames, max_pixels=self.max_pixels)

    @property
    def settings(self) -> ServerSettings | None:
        """How the server is asked; None where there is none."""
        return ServerSettings.at(self.server, self.judge, self.concurrency, self.cache, self.logprobs)


SURE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""How sure of a difference a judge that scores can be asked to be."""


def check_sure(sure: float, name: str = "first_pass_sure") -> None:
    """Raises InputError unless a judge that scores can be so ``sure``; ``name`` is the option's."""
    if sure not in SURE:
        raise InputError(f"{name} is {sure}; give one of {', '.join(map(str, SURE))}.", exit_code=2)


@dataclass(frozen=True, kw_only=True)
class JudgingConfig(JudgeOptions):
    """Options of all four commands.

    Attributes:
        batch: A CSV, TSV, JSON, JSON Lines or parquet file with the columns first, second, prompt (compare) or video,
            prompt (the others).
        output: A directory that keeps what is judged; the same command goes on where it was.
        report: Write an HTML page with the videos beside the verdicts to this file.
        first_pass: For rank: a judge that scores (AIGV-Assessor) and tells alone what it can; only pairs that are
            closer than its own interval are compared by the judge.
        first_pass_sure: How sure it has to be of a difference: 0.5, 0.6, 0.7, 0.8, 0.9, 0.95 or 0.99.
    """

    batch: str | None = None
    output: str | None = None
    report: str | None = None
    first_pass: str | None = None
    first_pass_sure: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sure(self.first_pass_sure)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the answers in a directory are answers to, and whose: ``judge_id``, and ``first_pass_id`` of the judge that
    goes first, are not known before these are loaded, so they are compared apart.
    """

    command: str
    judge: str
    preset: str | None
    adapter: str | None
    dtype: Precision
    samples: int
    temperature: float
    backend: Backend
    items: int
    items_id: str
    shown: Shown = Shown()
    first_pass: str | None = None
    first_pass_sure: float = 0.95
    judge_id: str | None = execution(None)
    first_pass_id: str | None = execution(None)

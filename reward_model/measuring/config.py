"""What can be set about the measuring of a judge."""

from dataclasses import dataclass, field
from typing import Any, Literal

from reward_model.datasets.items import Split
from reward_model.judging.config import Backend, JudgingConfig, ServerSettings, check_backend
from reward_model.prompts import TaskPrompts
from reward_model.wordings import Shown
from videoduet.config import Precision, at_least, execution, identity, required
from videoduet.errors import InputError
from videoduet.video import FrameSampling, Reader


@dataclass(frozen=True, kw_only=True)
class JudgeEvaluationConfig:
    """Measure a judge on a public benchmark.

    Attributes:
        judge: transformers or PEFT directory, or hub id, of the judge; what a server calls its model.
        benchmark: Name of the data set (docs/datasets.md).
        data: Folder where the data set lies.
        output: Where answers and results go; the same command resumes there.
        adapter: A LoRA on top of the judge.
        preset: What the judge is made for: vqinsight-comp, vqinsight-aigcvideo, vqinsight-naturalvideo (with --judge
            ByteDance/Q-Insight), or general. It is then asked in its own words where it has any.
        backend: What runs the model: transformers, vllm (installed beside), or server.
        server: URL of an OpenAI-compatible API for --backend server; the key is taken from the environment.
        concurrency: Requests to the server under way at once.
        cache: A directory where the server's answers are kept by the content of the question.
        logprobs: Ask the server for probabilities, which some hosts refuse.
        checker: What a server calls the model that reads, from the judge's free descriptions, which distortions they
            mention (benchmark finevd, as VQAThinker measures it; None: the judge is asked yes and no).
        checker_server: URL of that server's API (None: --server).
        together: Directories of results on other benchmarks, to be taken together with these as VQAThinker's Overall.
        factory: Import path of a class with compare(pairs), measured on pairs instead of a model.
        arguments: What it is called with.
        split: Split to measure on (None: test where the data set has one, else all of it).
        limit: Measure that many items, a seeded draw (None: all).
        scale: The scale that scores are asked for on. A judge that was trained to score is asked in its own words and
            on its own scale, unless this or ``prompts`` says otherwise.
        prompts: Wording of questions about one video.
        num_frames: Frames shown of a video, evenly spaced (None: as many as the judge was trained with).
        frames: Frames shown by their rate: fps, min_frames, max_frames; goes before ``num_frames``.
        max_pixels: The most pixels that a frame is shown with (None: as the judge was trained with).
        dtype: Precision of the weights.
        batch_size: Questions answered at once.
        reader: What decodes videos: pyav or decord (None: what VIDEODUET_READER in the environment says, else pyav).
        resamples: Bootstrap resamples of an interval.
        seed: Seed of the draw and of the bootstrap.
    """

    judge: str = identity("")
    benchmark: str = identity("")
    data: str = identity("")
    output: str = execution("")
    adapter: str | None = identity(None)
    preset: str | None = identity(None)
    backend: Backend = identity("transformers")
    server: str | None = execution(None)
    concurrency: int = execution(8)
    cache: str | None = execution(None)
    logprobs: bool = execution(True)
    checker: str | None = identity(None)
    checker_server: str | None = execution(None)
    together: list[str] = execution(factory=list)
    factory: str | None = identity(None)
    arguments: dict[str, Any] = identity(factory=dict)
    split: Split | None = identity(None)
    limit: int | None = identity(None)
    scale: tuple[float, float] = identity((0.0, 100.0))
    prompts: TaskPrompts = identity(TaskPrompts())
    num_frames: int | None = identity(None)
    frames: FrameSampling | None = identity(None)
    max_pixels: int | None = identity(None)
    dtype: Precision = identity("float32")
    batch_size: int = execution(16)
    reader: Reader | None = execution(None)
    resamples: int = execution(1000)
    seed: int = identity(0)

    def __post_init__(self) -> None:
        if self.factory is None:
            required(self, "judge")
        required(self, "benchmark", "data", "output")
        at_least(1, num_frames=self.num_frames, max_pixels=self.max_pixels)
        at_least(1, limit=self.limit, batch_size=self.batch_size, resamples=self.resamples)
        if self.scale[0] >= self.scale[1]:
            raise InputError(f"scale is {list(self.scale)}; give a low and a higher bound.", exit_code=2)
        check_backend(self.preset, self.backend, self.settings)
        if self.checker is not None and self.benchmark != "finevd":
            raise InputError(f"Nothing is checked in {self.benchmark}; leave --checker out.", exit_code=2)
        if self.checker is not None and self.checker_settings is None:
            raise InputError("The checker needs a server; give --checker_server URL.", exit_code=2)

    @property
    def checker_settings(self) -> ServerSettings | None:
        """How the model that reads descriptions is asked; None where there is none."""
        if self.checker is None:
            return None
        return ServerSettings.at(self.checker_server or self.server, self.checker, self.concurrency, self.cache, False)

    @property
    def shown(self) -> Shown:
        """What is shown in place of what the judge's prompts say."""
        return Shown(num_frames=self.num_frames, frames=self.frames, max_pixels=self.max_pixels)

    @property
    def settings(self) -> ServerSettings | None:
        """How the server is asked; None where there is none."""
        return ServerSettings.at(self.server, self.judge, self.concurrency, self.cache, self.logprobs)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the answers in a directory are answers to, and whose; ``score_wording`` is a hash of the judge's own words
    where scores are asked for in them ("": they are asked for in ``prompts``), and ``checker`` the model that read the
    judge's descriptions and a hash of how they were asked for ("": nothing was described).
    """

    benchmark: str
    data: str
    split: Split | None
    limit: int | None
    scale: tuple[float, float]
    prompts: TaskPrompts
    seed: int
    batch_size: int
    judge_id: str
    items: int
    score_wording: str = ""
    shown: Shown = Shown()
    checker: str = ""


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig(JudgingConfig):
    """Rank generators by what a judge says of their videos; and all options of the judge's own command.

    Attributes:
        prompts: A table or JSON Lines with prompt, perhaps name, and categories: FETV's fetv_data.json, or columns
            spatial, temporal, attribute, complexity (None: a video is called like its prompt).
        ask: What the judge is asked: to score every video, or to compare all generators' videos of each prompt.
        beside: ``leaderboard.json`` of other judges, or of people, of the same generators: their win rates are drawn
            beside these.
        resamples: Resamples of the prompts that make an interval.
        seed: Seed of the resampling.
    """

    prompts: str | None = None
    ask: Literal["score", "compare"] = "score"
    beside: list[str] = field(default_factory=list[str])
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, resamples=self.resamples)
        if self.batch is not None:
            raise InputError("A leaderboard takes a folder with a folder for each generator, no --batch.", exit_code=2)

"""Options of the judge's command: which judge, where its model runs, and how it answers."""

from dataclasses import asdict, dataclass
from typing import Literal

from reward_model import PRESETS, Decoding, Judge, VideoJudge
from reward_model.judging.server import ServerJudge, ServerSettings, api_key
from reward_model.judging.vllm_offline import VllmJudge
from videoduet.config import Precision, at_least, resolve
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console

TINY = "shapes_world/models/judge"


@dataclass(frozen=True, kw_only=True)
class JudgingConfig:
    """Options of all four commands.

    Attributes:
        judge: Qwen2.5-VL or Qwen3-VL: a transformers directory, a PEFT directory or a hub id. The default is the tiny
            judge that ships, which knows nothing but shapes world.
        preset: What the judge is made for: vqinsight-comp, vqinsight-aigcvideo, vqinsight-naturalvideo (with
            --judge ByteDance/Q-Insight), or general.
        adapter: A PEFT adapter to put on top.
        prompt: The text that the videos were made for, where a list does not say.
        batch: A CSV or JSON Lines file with the columns first, second, prompt (compare) or video, prompt (the others).
        output: A directory that keeps what is judged; the same command goes on where it was.
        report: Write an HTML page with the videos beside the verdicts to this file.
        dtype: Precision of the weights.
        batch_size: Showings at once, two for each pair.
        samples: Answers to each showing, of which the majority counts (1: one greedy answer).
        temperature: At which several samples are drawn.
        backend: What runs the model: transformers, vllm (installed beside), or server.
        server: URL of an OpenAI-compatible API (http://localhost:8000/v1) for --backend server, where --judge is what
            it calls its model; the key is taken from the environment (JUDGE_API_KEY or OPENAI_API_KEY).
        concurrency: Requests to the server under way at once.
        cache: A directory where the server's answers are kept by the content of the question.
        logprobs: Ask the server for probabilities, which some hosts refuse.
    """

    judge: str = TINY
    preset: str | None = None
    adapter: str | None = None
    prompt: str = ""
    batch: str | None = None
    output: str | None = None
    report: str | None = None
    dtype: Precision = "float32"
    batch_size: int = 16
    samples: int = 1
    temperature: float = 0.7
    backend: Literal["transformers", "vllm", "server"] = "transformers"
    server: str | None = None
    concurrency: int = 8
    cache: str | None = None
    logprobs: bool = True

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size, samples=self.samples)
        if self.preset is not None and self.preset not in PRESETS:
            raise InputError(f"There is no preset {self.preset}; take one of {', '.join(PRESETS)}.", exit_code=2)

        if (self.backend == "server") != (self.server is not None):
            raise InputError("--backend server and --server URL belong together; give both or neither.", exit_code=2)

    def load(self) -> VideoJudge:
        decoding, preset = Decoding(self.samples, self.temperature), self.preset or "general"
        if self.server is not None:
            settings = ServerSettings(
                self.server, self.judge, api_key(), self.concurrency, cache=self.cache, logprobs=self.logprobs
            )
            return ServerJudge(settings, preset=preset, decoding=decoding)
        if self.backend == "vllm":
            return VllmJudge(resolve(self.judge), preset=preset, decoding=decoding, dtype=self.dtype)
        if self.judge == TINY:
            console.print(
                "The tiny judge knows nothing but shapes world; name one for real videos with --judge.", markup=False
            )
        return Judge.from_pretrained(
            resolve(self.judge), preset=self.preset, adapter=self.adapter, dtype=self.dtype,
            batch_size=self.batch_size, decoding=decoding,
            device=str(processes().device),
        )  # fmt: skip

    @property
    def identity(self) -> dict:
        """What changes answers."""
        names = ("judge", "preset", "adapter", "dtype", "samples", "temperature", "backend")
        return {name: value for name, value in asdict(self).items() if name in names}

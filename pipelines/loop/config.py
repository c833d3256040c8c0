"""The config of a run, and the command line that it comes from."""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from alignment.preferences.pairs import PairConfig
from alignment.training.config import AlignConfig
from generators.config import Speed, check_sampler
from pipelines.loop.phases import phase_names
from pipelines.loop.prompts_config import PromptsConfig
from pipelines.loop.score_config import ScoreConfig
from pipelines.loop.score_config import VBenchConfig as VBenchConfig
from reward_model.judging.config import Backend, BatchSize, ServerSettings, check_backend
from reward_model.training.config import GRPOTraining
from videoduet.commands import command_parser, made, read_line
from videoduet.config import PACKAGE_ROOT, Precision, at_least, execution, identity, within
from videoduet.errors import InputError

DEFAULT_RECIPE = "configs/shapes_world.yaml"


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The text-to-video model that is aligned.

    Attributes:
        path: diffusers directory or hub id.
        sampler: Overrides of the family's sampling settings: steps, guidance_scale, fps, num_frames, height, width.
        dtype: Precision of the weights: float32, bfloat16 or float16.
        videos_per_prompt: N, the videos drawn for each prompt in each round (the paper: 10).
        batch_size: Videos drawn at once.
        speed: How videos are drawn, as pipelines.sample has it: auto, eager or compiled.
    """

    path: str = identity("")
    sampler: dict[str, Any] = identity(factory=dict)
    dtype: Precision = identity("float32")
    videos_per_prompt: int = identity(10)
    batch_size: int = identity(8)
    speed: Speed = identity("auto")

    def __post_init__(self) -> None:
        at_least(1, **{"generator.batch_size": self.batch_size})
        check_sampler(self.sampler)
        if self.videos_per_prompt < 2:
            raise InputError(
                f"generator.videos_per_prompt is {self.videos_per_prompt}, but a comparison needs two; set it to 2 or "
                "more.",
                exit_code=2,
            )


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Who compares the videos.

    Attributes:
        path: transformers or PEFT directory, or hub id, of a vision-language model; with a server, what it calls its
            model.
        preset: What the judge is made for, as pipelines.judge has it (None: what is kept beside its weights, else
            general).
        factory: Import path of a class with ``compare(pairs)``, used instead of a model: human votes, a metric.
        arguments: What ``factory`` is called with.
        second_path: A second judge of other training, which measures the result and never labels (None: none).
        dtype: Precision of the weights.
        batch_size: Showings answered at once, two for each pair (auto: as many as fit into a GPU's free memory, 16 on a
            CPU).
        samples: Answers to each showing, of which the majority counts (1: one greedy answer).
        temperature: At which several samples are drawn.
        backend: What runs the model: transformers, vllm (installed beside), or server. Only the first can be refreshed.
        server: URL of an OpenAI-compatible API, for backend server; the key is taken from the environment
            (JUDGE_API_KEY or OPENAI_API_KEY).
        concurrency: Requests to the server under way at once.
        cache: A directory where the server's answers are kept by the content of the question.
        logprobs: Ask the server for probabilities, which some hosts refuse.
    """

    path: str | None = identity(None)
    preset: str | None = identity(None)
    factory: str | None = identity(None)
    arguments: dict[str, Any] = identity(factory=dict)
    second_path: str | None = identity(None)
    dtype: Precision = identity("float32")
    batch_size: BatchSize = identity(64)
    samples: int = identity(1)
    temperature: float = identity(0.7)
    backend: Backend = identity("transformers")
    server: str | None = execution(None)
    concurrency: int = execution(8)
    cache: str | None = execution(None)
    logprobs: bool = identity(True)

    def __post_init__(self) -> None:
        batch = None if self.batch_size == "auto" else self.batch_size
        at_least(1, **{"judge.batch_size": batch, "judge.samples": self.samples})
        check_backend(self.preset, self.backend, self.settings)

    @property
    def settings(self) -> ServerSettings | None:
        """How the server is asked; None where there is none."""
        if self.server is not None and self.path is None:
            raise InputError("judge.server is given, but not judge.path: what the server calls its model.", exit_code=2)
        return ServerSettings.at(self.server, self.path or "", self.concurrency, self.cache, self.logprobs)

    @property
    def model(self) -> str | None:
        """The path of the model that can be loaded here and trained; None where the judge is none."""
        return self.path if self.factory is None and self.backend == "transformers" else None


@dataclass(frozen=True, kw_only=True)
class RefreshConfig:
    """How the judge learns from each round's videos (stage 3 of VQ-Insight).

    Attributes:
        enabled: Whether the judge is refreshed at all.
        original_data: JSON Lines of labelled pairs the judge was trained on; without it refresh is off.
        held_out_data: The same for pairs it never saw; the gate measures on these.
        original_share: Share of the original data in the mixture, in [0, 1].
        held_out_prompts: Share of the prompts kept from refreshing, to measure on.
        tolerance_original: Fall of accuracy on held-out original pairs beyond which the new judge is dropped.
        tolerance_generated: The same on generated pairs labelled by the judge before.
        cross_fit: Refresh on one half of the prompts and take DPO labels from the other, swapping each round.
        training: GRPO settings.
    """

    enabled: bool = identity(True)
    original_data: str | None = identity(None)
    held_out_data: str | None = identity(None)
    original_share: float = identity(0.34)
    held_out_prompts: float = identity(0.2)
    tolerance_original: float = identity(0.05)
    tolerance_generated: float = identity(0.25)
    cross_fit: bool = identity(False)
    training: GRPOTraining = GRPOTraining()

    def __post_init__(self) -> None:
        for name in ("original_share", "held_out_prompts"):
            within(0, 1, **{f"refresh.{name}": getattr(self, name)})
        if (self.training.parameters, self.training.method) != ("lora", "grpo"):
            raise InputError(
                "refresh.training goes on with a LoRA from round to round, by rewards; give parameters: lora and "
                "method: grpo.",
                exit_code=2,
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Align a text-to-video generator with a reasoning video judge, and keep the two improving each other.

    Without arguments this runs the embedded shapes world: a tiny generator and a tiny judge, on a laptop, in minutes.
    The same command resumes an interrupted run.

    Attributes:
        run_dir: Where everything is kept; an unfinished run there is resumed.
        seed: Seed of all randomness.
        rounds: How often the loop goes round; may grow later.
        prompts: Prompt sets.
        generator: The generator.
        judge: The judge.
        refresh: The judge's refresh.
        pairs: Which pairs become labels.
        align: Diffusion-DPO.
        score: What is measured on held-out prompts, after each round and at the end.
        launch: An accelerate config for each phase named in it (sample, refresh, rank, align, measure or score); such a
            phase runs as its own 'accelerate launch'.
        keep_latents: Of which videos final latents stay on the disk once a round's generator has learned: all, or those
            of its pairs. What another ranking asks for later is drawn again.
    """

    run_dir: str = execution("runs/shapes_world")
    seed: int = identity(0)
    rounds: int = execution(2)
    prompts: PromptsConfig = PromptsConfig()
    generator: GeneratorConfig = GeneratorConfig()
    judge: JudgeConfig = JudgeConfig()
    refresh: RefreshConfig = RefreshConfig()
    pairs: PairConfig = PairConfig()
    align: AlignConfig = AlignConfig()
    score: ScoreConfig = ScoreConfig()
    launch: dict[str, str] = execution(factory=dict)
    keep_latents: Literal["all", "pairs"] = execution("all")

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds)
        self.score.vbench.check_rounds(self.rounds)
        object.__setattr__(self, "score", replace(self.score, vbench=self.score.vbench.named()))
        for name in self.launch:
            if name not in phase_names():
                raise InputError(f"launch names {name}; phases are {', '.join(phase_names())}.", exit_code=2)
        if self.align.parameters == "all":
            raise InputError(
                "align.parameters is 'all', but the loop carries a LoRA from round to round; give 'lora', or train all "
                "weights with pipelines.train_generator.",
                exit_code=2,
            )
        if not (self.judge.path or self.judge.factory):
            raise InputError("No judge is named; set judge.path to a model or judge.factory to a class.", exit_code=2)


@dataclass(frozen=True)
class LoopOptions:
    """What a command line says besides the config: a plan, a rehearsal, from which phase on, whole models too, and
    which machine this is of how many.
    """

    plan: bool
    rehearse: bool
    from_phase: str | None
    merge: bool
    machine: str = "0/1"


def parse(arguments: Sequence[str] | None = None, description: str | None = None) -> tuple[RunConfig, LoopOptions]:
    """The config of a command line (None: the process's), and the options that are not part of it.

    Wrong usage (an unknown key, a wrong type) ends the program with exit code 2 and a message that names it.
    """
    parser = command_parser("pipelines.united_finetune", description or RunConfig.__doc__)
    parser.add_class_arguments(RunConfig, None, fail_untyped=False)
    parser.add_argument("--plan", action="store_true", help="print what the run would cost, and stop")
    parser.add_argument(
        "--rehearse", action="store_true", help="do every phase once at its smallest, tell what would fail, and stop"
    )
    parser.add_argument(
        "--from", dest="from_phase", type=str | None, default=None, help="start a sibling run at this phase"
    )
    parser.add_argument(
        "--machine",
        default="0/1",
        help="which machine this is, of how many that share run_dir: 0/4 to 3/4 (docs/scale.md)",
    )
    parser.add_argument("--merge", action="store_true", help="also export whole models to final/merged_*")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not any(argument.split("=")[0] == "--config" for argument in given):
        given = ["--config", str(PACKAGE_ROOT / DEFAULT_RECIPE), *given]
    values = read_line(parser, given, RunConfig)
    options = LoopOptions(**{item.name: values.pop(item.name) for item in fields(LoopOptions)})
    return made(RunConfig, parser, values), options

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
from pipelines.loop.audit_config import LoopAuditConfig
from pipelines.loop.judge_config import JudgeConfig, RefreshConfig
from pipelines.loop.phases import phase_names
from pipelines.loop.prompts_config import PromptsConfig
from pipelines.loop.score_config import ScoreConfig
from pipelines.loop.score_config import VBenchConfig as VBenchConfig
from videoduet.commands import command_parser, made, read_line
from videoduet.config import PACKAGE_ROOT, Precision, at_least, execution, identity
from videoduet.errors import InputError

DEFAULT_RECIPE = "configs/shapes_world.yaml"
FEWEST_RANKED = 3
"""Videos of a prompt below which there is but one comparison, and nothing is counted."""


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
        audit: The judge's audit.
        pairs: Which pairs become labels.
        align: Diffusion-DPO.
        score: What is measured on held-out prompts, after each round and at the end.
        launch: An accelerate config for each phase named in it (sample, refresh, audit, rank, align, measure or score);
            such a phase runs as its own 'accelerate launch'.
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
    audit: LoopAuditConfig = LoopAuditConfig()
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
        self._check_refreshable()
        refresh, videos = self.refresh, self.generator.videos_per_prompt
        if refresh.labels == "paper" and refresh.why_off(self.judge) is None and videos < FEWEST_RANKED:
            raise InputError(
                f"refresh.labels is 'paper', which takes the best of a prompt's videos by all their comparisons, and "
                f"generator.videos_per_prompt is {videos}; give {FEWEST_RANKED} or more, or labels: agreed.",
                exit_code=2,
            )

    def _check_refreshable(self) -> None:
        """Raises InputError where a refresh is asked for that would fail after a whole round."""
        refresh = self.refresh
        given = refresh.enabled and (refresh.data or refresh.original_data)
        if given and self.rounds > 1 and self.judge.rates_in_numbers:
            raise InputError(
                f"judge.path {self.judge.path} rates in numbers (AIGV-Assessor), and a refresh teaches one that "
                "answers in words; set refresh.enabled: false, or name it as judge.first_pass or judge.second_path.",
                exit_code=2,
            )


@dataclass(frozen=True)
class LoopOptions:
    """What a command line says besides the config: a plan, a rehearsal, from which phase on, whole models too, under
    which name on the hub they are published and for whom, and which machine this is of how many.
    """

    plan: bool
    rehearse: bool
    from_phase: str | None
    merge: bool
    machine: str = "0/1"
    push_to_hub: str | None = None
    public: bool = False


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
    parser.add_argument(
        "--push_to_hub", type=str | None, default=None,
        help="OWNER/NAME on the Hugging Face hub: what is exported is published as OWNER/NAME-generator and so on",
    )  # fmt: skip
    parser.add_argument("--public", type=bool, default=False, help="whether new repositories are for everybody to see")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not any(argument.split("=")[0] == "--config" for argument in given):
        given = ["--config", str(PACKAGE_ROOT / DEFAULT_RECIPE), *given]
    values = read_line(parser, given, RunConfig)
    options = LoopOptions(**{item.name: values.pop(item.name) for item in fields(LoopOptions)})
    return made(RunConfig, parser, values), options

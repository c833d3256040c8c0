"""What a run's config says of its judge, and of how that learns from each round."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reward_model.judging.config import Backend, BatchSize, ServerSettings, check_backend, check_sure, rates_in_numbers
from reward_model.presets import PRESETS, preset_named
from reward_model.training.config import DataConfig, GRPOTraining, RewardConfig
from videoduet.config import Precision, at_least, execution, identity, resolve, within
from videoduet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Who compares the videos.

    Attributes:
        path: transformers or PEFT directory, or hub id, of a vision-language model; with a server, what it calls its
            model.
        preset: What the judge is made for, as pipelines.judge has it (None: what is kept beside its weights, else
            general).
        subfolder: Where in ``path`` the weights lie (None: where the preset says, or at the top).
        factory: Import path of a class with ``compare(pairs)``, used instead of a model: human votes, a metric.
        arguments: What ``factory`` is called with.
        second_path: A second judge of other training, which measures the result and never labels (None: none).
        first_pass: A judge that scores (AIGV-Assessor) and ranks alone what it can tell; only pairs that are closer
            than its own interval are compared (None: all are).
        first_pass_sure: How sure it has to be of a difference: 0.5, 0.6, 0.7, 0.8, 0.9, 0.95 or 0.99.
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
    subfolder: str | None = identity(None)
    factory: str | None = identity(None)
    arguments: dict[str, Any] = identity(factory=dict)
    second_path: str | None = identity(None)
    first_pass: str | None = identity(None)
    first_pass_sure: float = identity(0.95)
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
        check_sure(self.first_pass_sure, "judge.first_pass_sure")
        if not preset_named(self.preset).compares:
            able = ", ".join(name for name, preset in PRESETS.items() if preset.compares)
            raise InputError(
                f"judge.preset {self.preset} is made to score single videos, and the loop compares two; take one of "
                f"{able}.",
                exit_code=2,
            )

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

    @property
    def rates_in_numbers(self) -> bool:
        """Whether it is an AIGV-Assessor, as far as that is known before it is loaded."""
        if self.model is None:
            return False
        return preset_named(self.preset).numbers or rates_in_numbers(Path(resolve(self.model)) / (self.subfolder or ""))

    @property
    def untrainable(self) -> str | None:
        """Why the judge cannot learn; None where it can."""
        if self.factory is not None:
            return "The judge is a class (judge.factory), no model that could be trained here."
        if self.backend != "transformers":
            return f"A judge of backend {self.backend} answers and cannot be trained; judge.backend transformers can."
        if self.rates_in_numbers:
            return "The judge rates in numbers (AIGV-Assessor), and a refresh teaches one that answers in words."
        if (asked := preset_named(self.preset).prompts.compare) is not None and asked.read_as is not None:
            return f"Preset {self.preset} answers in scores of its own form, from which nothing here learns."
        return None


@dataclass(frozen=True, kw_only=True)
class RefreshConfig:
    """How the judge learns from each round's videos (stage 3 of VQ-Insight).

    Attributes:
        enabled: Whether the judge is refreshed at all.
        labels: 'paper' takes, for every prompt, the best new video by all C(N,2) comparisons of the judge before as
            better than the loser of the round before; 'agreed' only where that judge, asked once more about these two,
            says so in both orders.
        data: The judge's own data: any data sets that a judge can be trained on, as pipelines.train_reward_model has
            them; the gate measures on the test split of those whose train split is learned from.
        rewards: The rewards, where ``data`` is given; the length reward and all others of a stage.
        original_data: JSON Lines of labelled pairs the judge was trained on, beside or in place of ``data``; without
            either refresh is off.
        held_out_data: The same for pairs it never saw; the gate measures on these.
        original_share: Share of the original data in the mixture, in [0, 1].
        held_out_prompts: Share of the prompts kept from refreshing, to measure on.
        second_path: A judge of other training; the gate measures on its labels of new videos in place of those of the
            judge before (None: none; with labels 'paper' the gate then measures on original pairs alone).
        tolerance_original: Fall of accuracy on held-out original pairs beyond which the new judge is dropped.
        tolerance_generated: The same on generated pairs labelled by the judge before, or the second one.
        cross_fit: Refresh on one half of the prompts and take DPO labels from the other, swapping each round.
        training: GRPO settings.
    """

    enabled: bool = identity(True)
    labels: Literal["paper", "agreed"] = identity("agreed")
    data: list[DataConfig] = identity(factory=list[DataConfig])
    rewards: RewardConfig = RewardConfig()
    original_data: str | None = identity(None)
    held_out_data: str | None = identity(None)
    original_share: float = identity(0.34)
    held_out_prompts: float = identity(0.2)
    second_path: str | None = identity(None)
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
        if self.data and not 0 < self.original_share < 1:
            raise InputError(
                f"refresh.original_share is {self.original_share:g} with refresh.data; give a number between 0 and 1.",
                exit_code=2,
            )
        if not self.data and self.rewards != RewardConfig():
            raise InputError(
                "refresh.rewards are for refresh.data; name data sets there, or leave the rewards out.", exit_code=2
            )

    def why_off(self, judge: JudgeConfig) -> str | None:
        """Why there is no refresh; None where there is."""
        if not self.enabled:
            return "The config says so (refresh.enabled)."
        if (reason := judge.untrainable) is not None:
            return reason
        if self.data:
            return None
        if self.original_data is None or self.held_out_data is None:
            names = "refresh.data, or refresh.original_data and held_out_data"
            return f"There is none of the judge's original data to keep it honest ({names})."
        return None

    def items(self, prompts: int) -> int:
        """Labelled pairs that ``prompts`` give at most, and as many of the original data as go with them: what an epoch
        shows.
        """
        generated = 2 * round(prompts * (1 - self.held_out_prompts))
        return round(generated / (1 - self.original_share)) if self.original_share < 1 else generated

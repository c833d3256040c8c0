"""What can be set about the training of a judge."""

from dataclasses import dataclass
from typing import Literal

from reward_model.datasets.items import Split
from reward_model.prompts import TaskPrompts
from reward_model.rewards import Variant
from videoduet.config import Precision, at_least, execution, identity, required
from videoduet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GRPOTraining:
    """How a judge learns from labelled pairs. The paper's own numbers are not published; these follow Q-Insight.

    Attributes:
        steps: Optimizer steps.
        pairs_per_step: Labelled pairs in a step.
        num_generations: Rollouts for each pair (the group), 2 or more.
        learning_rate: Peak learning rate of the LoRA.
        kl_weight: Weight of the KL to the judge before GRPO.
        format_weight: Weight of the format reward.
        lora_rank: Rank of the LoRA.
        micro_batch: Rollouts in one forward.
        checkpoint_steps: Steps between checkpoints.
    """

    steps: int = identity(60)
    pairs_per_step: int = identity(8)
    num_generations: int = identity(8)
    learning_rate: float = identity(1e-4)
    kl_weight: float = identity(0.02)
    format_weight: float = identity(0.2)
    lora_rank: int = identity(16)
    micro_batch: int = execution(64)
    checkpoint_steps: int = execution(10)

    def __post_init__(self) -> None:
        least = {"num_generations": 2}
        for name in ("steps", "pairs_per_step", "num_generations", "lora_rank", "micro_batch", "checkpoint_steps"):
            if getattr(self, name) < least.get(name, 1):
                message = f"training.{name} is {getattr(self, name)}; give {least.get(name, 1)} or more."
                raise InputError(message, exit_code=2)


Temporal = Literal["none", "modeling", "consistency", "fidelity", "contrast", "margin", "severity"]
VERSIONS: dict[Temporal, tuple[float, ...]] = {
    "contrast": (1.0,),
    "margin": (1.0,),
    "severity": (1.0, 0.5, 0.25),
}
"""How much the versions of a clip are shuffled that a temporal reward trains on, the one that matters most first."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Which rewards a stage gives, each of which can be switched off to see what it is worth.

    Attributes:
        variant: 'paper' for the printed formulas (a score's error counts at most the whole scale), 'released' for what
            the authors' code does.
        score: A score's reward: 'l1' (VQ-Insight) or 'bell' (VQAThinker, on the 1-5 scale).
        ranking: VQAThinker's pairwise ranking of a step's videos of one data set.
        temporal: 'modeling' shows half of a group shuffled frames too (VQ-Insight), 'consistency' all of it perturbed
            ones (VQAThinker), 'none' neither. 'fidelity' wants scores above those of shuffled frames; 'contrast',
            'margin' and 'severity' train on shuffled versions of a scored clip too, for lower scores: by rank, by
            distance, and on several versions by rank. The versions are rows of their own in a step.
        length: VQ-Insight's bonus on a length of answer.
        l_min: Tokens that an answer must exceed for it.
        l_max: Tokens that it must stay below.
        dimension_weight: λ of every dimension of a multi-dimension score (None: 1/M; the paper says 1).
    """

    variant: Variant = identity("paper")
    score: Literal["l1", "bell"] = identity("l1")
    ranking: bool = identity(False)
    temporal: Temporal = identity("none")
    length: bool = identity(False)
    l_min: int = identity(320)
    l_max: int = identity(512)
    dimension_weight: float | None = identity(None)

    def __post_init__(self) -> None:
        if not 0 <= self.l_min < self.l_max:
            raise InputError(f"rewards.l_min {self.l_min} must be below l_max {self.l_max}.", exit_code=2)
        if self.temporal == "consistency" and not (self.ranking or self.score == "bell"):
            message = "rewards.temporal 'consistency' compares VQAThinker's rewards; set score: bell or ranking: true."
            raise InputError(message, exit_code=2)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the rewards given, in the order in which they are logged."""
        optional = {"ranking": self.ranking, "temporal": self.temporal != "none", "length": self.length}
        return ("accuracy", "format", *(name for name, given in optional.items() if given))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A data set to train on.

    Attributes:
        name: Its name (docs/datasets.md).
        folder: Where it lies.
        split: Which split of it.
        limit: Use that many items, a seeded draw (None: all).
        share: Share of the rows (None: in proportion to its size).
    """

    name: str
    folder: str
    split: Split = "train"
    limit: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        at_least(1, **{f"data {self.name} limit": self.limit})
        if self.share is not None and not 0 < self.share <= 1:
            raise InputError(f"data {self.name}: share is {self.share}; give more than 0, at most 1.", exit_code=2)


@dataclass(frozen=True, kw_only=True)
class JudgeTrainingConfig:
    """Train a judge by GRPO on public data.

    Attributes:
        model: transformers directory, PEFT directory or hub id to start from; the KL is to this.
        data: The data sets.
        output: Where adapter, model and everything on the way to them is kept.
        adapter: A LoRA on the same model to go on from.
        scale: The scale that scores are asked for on; every data set's own is moved to it.
        rewards: Which rewards are given.
        training: GRPO; ``pairs_per_step`` counts items.
        prompts: Wording of questions about one video.
        num_frames: Frames shown of a video (None: as the judge's prompt says).
        max_new_tokens: Longest answer in tokens (None: as the judge's prompt says).
        hard_pairs: Train only on pairs that the judge gets wrong or cannot decide before training.
        merge: Also write the whole model, which transformers loads without peft.
        dtype: Precision of the weights while the judge looks for hard pairs.
        seed: Seed of all randomness.
        plan: Print what the training will cost, and stop.
    """

    model: str = identity("")
    data: list[DataConfig] = identity(factory=list)
    output: str = execution("")
    adapter: str | None = identity(None)
    scale: tuple[float, float] = identity((0.0, 100.0))
    rewards: RewardConfig = RewardConfig()
    training: GRPOTraining = GRPOTraining()
    prompts: TaskPrompts = identity(TaskPrompts())
    num_frames: int | None = identity(None)
    max_new_tokens: int | None = identity(None)
    hard_pairs: bool = identity(False)
    merge: bool = execution(False)
    dtype: Precision = identity("float32")
    seed: int = identity(0)
    plan: bool = execution(False)

    def __post_init__(self) -> None:
        required(self, "model", "data", "output")
        at_least(1, num_frames=self.num_frames, max_new_tokens=self.max_new_tokens)
        if self.scale[0] >= self.scale[1]:
            raise InputError(f"scale is {list(self.scale)}; give a low and a higher bound.", exit_code=2)
        if self.rewards.ranking and self.training.pairs_per_step < 2:
            raise InputError("rewards.ranking compares videos; set training.pairs_per_step to 2 or more.", exit_code=2)

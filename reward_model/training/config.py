"""What can be set about the training of a judge."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from reward_model.datasets.items import Split
from reward_model.prompts import TaskPrompts
from reward_model.rewards import Variant
from reward_model.training.assessor_config import AssessorTraining
from videoduet.config import Precision, at_least, execution, identity, required, within
from videoduet.errors import InputError
from videoduet.quantized import LoadIn
from videoduet.video import FrameSampling


@dataclass(frozen=True, kw_only=True)
class GRPOTraining:
    """How a judge learns. The defaults are those of the embedded default, whose judge is tiny.

    VQ-Insight prints a group of 8, a KL of 0.001, a learning rate of 1e-6 for all weights and 3 epochs; VQAThinker a
    group of 4, a KL of 0.04, the same rate and epochs, sampling at 0.9 with top_k 50, and a clip of 0.2. Its text has a
    batch of 64 videos, its script 16 videos a pass and two passes an update. The recipes say the same.

    Attributes:
        method: 'grpo' from rewards, or 'sft': cross-entropy on the right answer to the same items, to compare with.
        parameters: What is trained of the language model: a 'lora', or 'all' weights (float32, whatever computes).
        vision: What is trained of the vision tower: 'frozen', a 'lora' beside the language model's, or 'all' of it with
            all of the language model.
        steps: Optimizer steps (where ``epochs`` says nothing).
        epochs: Times that all items are shown, whence the steps (None: ``steps`` says).
        pairs_per_step: Items in a pass: labelled pairs, or what a recipe's data hold.
        passes: Passes in a step. Rewards that compare videos see those of one pass.
        num_generations: Rollouts for each item (the group), 2 or more.
        temperature: At which rollouts are drawn.
        top_p: Share of the probability that tokens are drawn from.
        top_k: So many of the likeliest tokens are drawn from (0: all).
        learning_rate: Peak learning rate.
        clip: ε: how far from 1 the ratio of new to old probabilities counts.
        kl_weight: Weight of the KL to the judge before GRPO.
        format_weight: Weight of the format reward.
        lora_rank: Rank of the LoRA.
        load_in: '4bit' or '8bit' for the linear layers of the frozen language model under the LoRA, by bitsandbytes on
            a GPU (None: as they are).
        micro_batch: Rollouts in one forward.
        checkpoint_steps: Steps between checkpoints.
    """

    method: Literal["grpo", "sft"] = identity("grpo")
    parameters: Literal["lora", "all"] = identity("lora")
    vision: Literal["frozen", "lora", "all"] = identity("frozen")
    steps: int = identity(60)
    epochs: float | None = identity(None)
    pairs_per_step: int = identity(8)
    passes: int = identity(1)
    num_generations: int = identity(8)
    temperature: float = identity(1.0)
    top_p: float = identity(1.0)
    top_k: int = identity(0)
    learning_rate: float = identity(1e-4)
    clip: float = identity(0.2)
    kl_weight: float = identity(0.02)
    format_weight: float = identity(0.2)
    lora_rank: int = identity(16)
    load_in: LoadIn | None = identity(None)
    micro_batch: int = execution(64)
    checkpoint_steps: int = execution(10)

    def __post_init__(self) -> None:
        at_least(2, **{"training.num_generations": self.num_generations})
        for name in ("steps", "pairs_per_step", "passes", "lora_rank", "micro_batch", "checkpoint_steps"):
            at_least(1, **{f"training.{name}": getattr(self, name)})
        at_least(0, **{"training.top_k": self.top_k})
        within(0, 1, **{"training.clip": self.clip})
        for name in ("temperature", "top_p", "epochs"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise InputError(f"training.{name} is {value}; give more than 0.", exit_code=2)
        within(0, 1, **{"training.top_p": self.top_p})
        if self.load_in is not None and self.parameters != "lora":
            raise InputError(
                f"training.load_in is '{self.load_in}', which is for what is frozen under a LoRA; give "
                "training.parameters: lora.",
                exit_code=2,
            )
        if self.vision != "frozen" and self.vision != self.parameters:
            raise InputError(
                f"training.vision is '{self.vision}' with training.parameters '{self.parameters}'; give both the same, "
                "or vision 'frozen'.",
                exit_code=2,
            )

    @property
    def items_per_step(self) -> int:
        """How many items an optimizer step learns from."""
        return self.pairs_per_step * self.passes

    def with_rows(self, beside: int) -> "GRPOTraining":
        """The same for a trainer whose passes hold so many rows beside their items."""
        return replace(self, pairs_per_step=self.pairs_per_step + beside)

    def for_items(self, count: int) -> "GRPOTraining":
        """The same for ``count`` items, with ``steps`` for as many ``epochs`` as are asked for."""
        if self.epochs is None:
            return self
        return replace(self, steps=max(1, math.ceil(self.epochs * count / self.items_per_step)), epochs=None)


IDLE = (
    "method", "parameters", "vision", "num_generations", "temperature", "top_p", "top_k", "clip", "kl_weight",
    "format_weight",
)  # fmt: skip
"""What AIGV-Assessor's stages do not take of a training."""

Temporal = Literal["none", "modeling", "consistency", "fidelity", "contrast", "margin", "severity", "discount"]
VERSIONS: dict[Temporal, tuple[float, ...]] = {
    "contrast": (1.0,),
    "margin": (1.0,),
    "severity": (1.0, 0.5, 0.25),
    "discount": (1.0,),
}
"""How much the versions of a clip are shuffled that a temporal reward trains on, the one that matters most first."""


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Which rewards a stage gives, each of which can be switched off to see what it is worth.

    Attributes:
        variant: 'paper' for the printed formulas (a score's error counts at most the whole scale), 'released' for what
            the authors' code does.
        score: A score's reward: 'l1' (VQ-Insight), 'bell' (VQAThinker, on the 1-5 scale), or 'none' where it is ranked
            alone (a temporal reward still measures it by l1).
        ranking: VQAThinker's pairwise ranking of a step's videos of one data set.
        temporal: 'modeling' shows half of a group shuffled frames too (VQ-Insight), 'consistency' all of it perturbed
            ones (VQAThinker), 'none' neither. 'fidelity' wants scores above those of shuffled frames; 'contrast',
            'margin', 'severity' and 'discount' train on shuffled versions of a scored clip too, for lower scores: by
            rank, by distance, on several versions by rank, and by a label that is lower by a share of the clip's.
        versions: Rows of such versions beside the items of a pass, as a share of these.
        length: VQ-Insight's bonus on a length of answer.
        l_min: Tokens that an answer must exceed for it.
        l_max: Tokens that it must stay below.
        dimension_weight: λ of every dimension of a multi-dimension score (None: 1/M; the paper says 1).
    """

    variant: Variant = identity("paper")
    score: Literal["l1", "bell", "none"] = identity("l1")
    ranking: bool = identity(False)
    temporal: Temporal = identity("none")
    versions: float = identity(0.25)
    length: bool = identity(False)
    l_min: int = identity(320)
    l_max: int = identity(512)
    dimension_weight: float | None = identity(None)

    def __post_init__(self) -> None:
        if not 0 <= self.l_min < self.l_max:
            raise InputError(f"rewards.l_min {self.l_min} must be below l_max {self.l_max}.", exit_code=2)
        if not self.versions > 0:
            raise InputError(f"rewards.versions is {self.versions}; give more than 0.", exit_code=2)
        if self.score == "none" and not self.ranking:
            raise InputError("rewards.score 'none' leaves the ranking alone; set ranking: true.", exit_code=2)
        if self.temporal == "consistency" and not (self.ranking or self.score == "bell"):
            message = "rewards.temporal 'consistency' compares VQAThinker's rewards; set score: bell or ranking: true."
            raise InputError(message, exit_code=2)

    @property
    def severities(self) -> tuple[float, ...]:
        """How much the versions of a clip are shuffled that are trained on, if any are."""
        return VERSIONS.get(self.temporal, ())

    def rows_beside(self, items: int) -> int:
        """How many rows of versions stand beside that many items of a pass."""
        return math.ceil(self.versions * items) if self.severities else 0

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
    """Train a judge by GRPO on public data, or in AIGV-Assessor's stages.

    Attributes:
        model: transformers directory, PEFT directory or hub id to start from; the KL is to this.
        data: The data sets.
        output: Where adapter, model and everything on the way to them is kept.
        adapter: A LoRA on the same model to go on from.
        scale: The scale that scores are asked for on; every data set's own is moved to it.
        rewards: Which rewards are given.
        training: GRPO; ``pairs_per_step`` counts items.
        assessor: AIGV-Assessor's stages, which take steps, rate and LoRA from ``training`` and ask for nothing else.
        prompts: Wording of questions about one video.
        reasoning: Ask for a thought before the answer; else in words that ask for the answer alone, without the format
            reward.
        num_frames: Frames shown of a video, evenly spaced (None: as the judge's prompt says).
        frames: Frames shown by their rate: fps, min_frames, max_frames; goes before ``num_frames``.
        max_pixels: The most pixels a frame is shown with (None: as the judge's prompt says).
        max_new_tokens: Longest answer in tokens (None: as the judge's prompt says).
        layout: How frames are written, where the judge's family knows several ways: 'vqathinker' or 'vqathinker-train',
            for InternVL (None: as the judge's prompt says).
        hard_pairs: Train only on pairs that the judge gets wrong or cannot decide before training.
        merge: Also write the whole model, which transformers loads without peft.
        dtype: Precision of the weights while the judge looks for hard pairs; training has its own (see
            :func:`reward_model.training.policy.precision`).
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
    assessor: AssessorTraining = AssessorTraining()
    prompts: TaskPrompts = identity(TaskPrompts())
    reasoning: bool = identity(True)
    num_frames: int | None = identity(None)
    frames: FrameSampling | None = identity(None)
    max_pixels: int | None = identity(None)
    max_new_tokens: int | None = identity(None)
    layout: str | None = identity(None)
    hard_pairs: bool = identity(False)
    merge: bool = execution(False)
    dtype: Precision = identity("float32")
    seed: int = identity(0)
    plan: bool = execution(False)

    def __post_init__(self) -> None:
        required(self, "model", "data", "output")
        at_least(1, num_frames=self.num_frames, max_new_tokens=self.max_new_tokens, max_pixels=self.max_pixels)
        if self.scale[0] >= self.scale[1]:
            raise InputError(f"scale is {list(self.scale)}; give a low and a higher bound.", exit_code=2)
        if self.assessor.stage != "none":
            self._check_assessor()
        if self.training.method == "sft" and self.reasoning:
            raise InputError(
                "training.method 'sft' learns the answers of the data, which hold no thoughts; give reasoning: false.",
                exit_code=2,
            )
        if self.rewards.score == "bell" and self.scale != (1.0, 5.0):
            raise InputError(
                f"rewards.score is 'bell', VQAThinker's on 1 to 5, and scale is {list(self.scale)}; give scale: [1, 5] "
                "or score: l1.",
                exit_code=2,
            )
        if self.rewards.ranking and self.training.pairs_per_step < 2:
            raise InputError("rewards.ranking compares videos; set training.pairs_per_step to 2 or more.", exit_code=2)

    def _check_assessor(self) -> None:
        """Raises InputError for what a stage of AIGV-Assessor would pay no heed to."""
        if self.adapter is not None or self.hard_pairs:
            raise InputError(
                "assessor.stage goes on from a whole model and takes all items; leave adapter and hard_pairs out.",
                exit_code=2,
            )
        if self.training.load_in is not None:
            raise InputError("assessor.stage trains on weights as they are; leave training.load_in out.", exit_code=2)
        usual = GRPOTraining()
        idle = [f"training.{name}" for name in IDLE if getattr(self.training, name) != getattr(usual, name)]
        usuals = {"rewards": RewardConfig(), "prompts": TaskPrompts(), "scale": (0.0, 100.0), "reasoning": True}
        idle += [name for name, value in {**usuals, "max_new_tokens": None}.items() if getattr(self, name) != value]
        if idle:
            raise InputError(
                f"assessor.stage says itself what is trained and by which loss, and nothing is generated; leave "
                f"{', '.join(idle)} out.",
                exit_code=2,
            )

"""How a judge that rates in numbers is trained."""

from dataclasses import dataclass
from typing import Literal

from videoduet.config import at_least, identity, within
from videoduet.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AssessorTraining:
    """How a judge learns to rate in numbers, as AIGV-Assessor in its three stages (Wang et al. 2025, section 4.2).

    Attributes:
        stage: 'levels' trains the projectors to say levels in words, 'scores' a LoRA on vision tower and language model
            and the score heads, 'pairs' the networks that compare; 'none' is a training in words.
        question: What is asked, with {dimension} and perhaps {prompt} (None: as the judge's prompt says, else the
            release).
        validation: Share of the prompts that is held out, to stop by and to calibrate on; 0 takes the last step.
        patience: Validations without a better one before it stops; one comes every ``training.checkpoint_steps``.
        weight_decay: Of AdamW.
        warmup: Share of the steps that the learning rate rises in, before it falls as a cosine.
        lora_alpha: Alpha of the LoRA, whose rank is ``training.lora_rank``.
        dropout: Of the LoRA.
        widths: What is between a hidden state and a score, in new heads.
        pair_width: Numbers between what a pair network sees and its logit, in new networks.
    """

    stage: Literal["none", "levels", "scores", "pairs"] = identity("none")
    question: str | None = identity(None)
    validation: float = identity(0.1)
    patience: int = identity(5)
    weight_decay: float = identity(0.01)
    warmup: float = identity(0.03)
    lora_alpha: int = identity(16)
    dropout: float = identity(0.05)
    widths: list[int] = identity(factory=lambda: [1024, 256, 64, 16])
    pair_width: int = identity(64)

    def __post_init__(self) -> None:
        within(0, 0.5, **{"assessor.validation": self.validation})
        within(0, 1, **{"assessor.warmup": self.warmup, "assessor.dropout": self.dropout})
        at_least(1, **{f"assessor.{name}": getattr(self, name) for name in ("patience", "lora_alpha", "pair_width")})
        at_least(1, **{"assessor.widths": min(self.widths, default=None)})
        if self.question is not None and "{dimension}" not in self.question:
            raise InputError("assessor.question asks for no {dimension}; name it in the question.", exit_code=2)

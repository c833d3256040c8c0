"""The next token of every row from its logits, as ``generate`` picks it, without a word from the processor (CPU).

What transformers' own classes do at a step is used where it is a computation alone; what they ask Python at each step
(is it early still? which tokens are suppressed?) is asked once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

NONE = 0
"""What a token is called that nobody looks at."""


class UnknownSettings(ValueError):
    """A generation's settings ask for what is only known to ``generate``."""


@dataclass(frozen=True)
class Drawing:
    """How tokens are picked: greedily, or drawn at ``temperature`` among the ``top_k`` (0: all) likeliest, and of these
    among the likeliest that make up ``top_p``.

    An answer ends with one of ``ends``, not before its token number ``least``; what follows is ``pad``. ``suppressed``
    tokens are never picked, and ``repetition`` divides the (positive) logits of tokens that were there before.
    """

    ends: tuple[int, ...] = ()
    pad: int = NONE
    suppressed: tuple[int, ...] = ()
    repetition: float = 1.0
    least: int = 0
    sampled: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    KNOWN: ClassVar[frozenset[str]] = frozenset(
        {
            "eos_token_id", "pad_token_id", "bos_token_id", "suppress_tokens", "repetition_penalty", "min_new_tokens",
            "do_sample", "temperature", "top_k", "top_p", "max_length", "max_new_tokens", "use_cache",
            "cache_implementation", "disable_compile", "transformers_version", "_from_model_config",
        }
    )  # fmt: skip
    """Settings that are carried out here, and those that change nothing that is picked."""

    @classmethod
    def of(cls, settings: GenerationConfig, **given: Any) -> "Drawing":
        """As ``settings`` say, where nothing else is ``given``. Raises UnknownSettings."""
        usual = vars(GenerationConfig())
        # Compared as they are: `to_diff_dict` copies lists of as many tokens as there are, number by number.
        own = {name: value for name, value in vars(settings).items() if name[0] != "_" and value != usual.get(name)}
        set_to: dict[str, Any] = {**own, **given}
        # Whatever changes what is picked has a value; what a model hands out besides its tokens is off.
        strange = sorted({name for name, value in set_to.items() if value not in (None, False)} - cls.KNOWN)
        if strange:
            raise UnknownSettings(", ".join(strange))

        def value(name: str, otherwise: Any) -> Any:
            found = given[name] if name in given else getattr(settings, name, None)
            return otherwise if found is None else found

        ends = value("eos_token_id", ())
        ends = (ends,) if isinstance(ends, int) else tuple(ends)
        return cls(
            ends=ends,
            pad=value("pad_token_id", ends[0] if ends else NONE),
            suppressed=tuple(value("suppress_tokens", ())),
            repetition=float(value("repetition_penalty", 1.0)),
            least=value("min_new_tokens", 0),
            sampled=value("do_sample", False),
            temperature=float(value("temperature", 1.0)),
            # As many as ``generate`` takes where nobody says.
            top_k=value("top_k", 50),
            top_p=float(value("top_p", 1.0)),
        )


class Picker:
    """Picks the tokens of B rows, step after step, and keeps them: ``tokens`` (B, new) int64, and ``logits`` (B, new,
    labels) float32 of the ``labels`` at each, as they were before the temperature.

    Nothing that it does asks a GPU for an answer, and all that it changes is in :attr:`state`, so a step can be a CUDA
    graph.
    """

    def __init__(
        self, drawing: Drawing, new: int, vocabulary: int, device: torch.device,
        prompts: Sequence[Sequence[int]], labels: Sequence[int] = (),
    ):  # fmt: skip
        """``prompts`` are the tokens of each row, of which those are repetitions that come again."""
        rows = len(prompts)
        self.drawing, self.ends = drawing, torch.tensor(drawing.ends, dtype=torch.long, device=device)
        self.labels = torch.tensor(list(labels), dtype=torch.long, device=device)
        self.tokens = torch.full((rows, new), drawing.pad, device=device)
        self.logits = torch.zeros(rows, new, len(self.labels), device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.count = torch.zeros(1, dtype=torch.long, device=device)
        self.suppressed = _mask(drawing.suppressed, vocabulary, device)
        self.early = _mask(drawing.ends if drawing.least else (), vocabulary, device)
        self.penalty, self.history = None, torch.empty(0, device=device)
        if drawing.repetition != 1.0:
            self.penalty = RepetitionPenaltyLogitsProcessor(drawing.repetition)
            width = max(map(len, prompts))
            # A place that is free still repeats what is there already, which changes nothing.
            filled = [[*prompt, *[prompt[0]] * (width - len(prompt) + new)] for prompt in prompts]
            self.history, self.width = torch.tensor(filled, device=device), width
        self.warpers = LogitsProcessorList(_warpers(drawing) if drawing.sampled else [])

    @property
    def state(self) -> list[Tensor]:
        """All that a step changes."""
        return [self.tokens, self.logits, self.done, self.count, self.history]

    def __call__(self, logits: Tensor) -> Tensor:
        """Tokens (B,) after ``logits`` (B, vocabulary) float32; ``pad`` where a row has ended."""
        scores = logits if self.penalty is None else self.penalty(self.history, logits)  # pyright: ignore[reportArgumentType] -- asks for a class of integers' tensors that no tensor is of
        if self.early is not None:
            scores = scores.masked_fill(self.early & (self.count < self.drawing.least), -torch.inf)
        if self.suppressed is not None:
            scores = scores.masked_fill(self.suppressed, -torch.inf)
        if len(self.labels):
            self.logits.index_copy_(1, self.count, scores[:, self.labels][:, None])
        token = self._drawn(scores) if self.drawing.sampled else scores.argmax(-1)
        token = token.masked_fill(self.done, self.drawing.pad)
        self.tokens.index_copy_(1, self.count, token[:, None])
        if self.penalty is not None:
            self.history.index_copy_(1, self.count + self.width, token[:, None])
        self.done |= (token[:, None] == self.ends).any(-1)
        self.count += 1
        return token

    def _drawn(self, scores: Tensor) -> Tensor:
        # What torch.multinomial computes, which looks at its input from Python first.
        chances = self.warpers(self.tokens, scores).softmax(-1)  # pyright: ignore[reportArgumentType] -- as above
        return (chances / torch.empty_like(chances).exponential_()).argmax(-1)


def _warpers(drawing: Drawing) -> list[LogitsProcessor]:
    warpers: list[LogitsProcessor] = []
    if drawing.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(drawing.temperature))
    if drawing.top_k:
        warpers.append(TopKLogitsWarper(drawing.top_k))
    if drawing.top_p < 1.0:
        warpers.append(TopPLogitsWarper(drawing.top_p))
    return warpers


def _mask(tokens: Sequence[int], vocabulary: int, device: torch.device) -> Tensor | None:
    """Which of all tokens (vocabulary,) are ``tokens``; None where none is."""
    if not tokens:
        return None
    none: Any = None
    return SuppressTokensLogitsProcessor(tokens)(none, torch.zeros(1, vocabulary, device=device))[0].isinf()

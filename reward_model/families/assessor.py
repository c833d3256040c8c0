"""AIGV-Assessor (Wang et al. 2025): an InternVL that rates a video in several dimensions in one forward, in numbers.

Each dimension has a question of its own and an answer that is begun ("The static quality of the video is"); what comes
to the last of its words is read by the dimension's head as a score, or by the language model as a level in words. The
release reads the fourth token from the end of the whole answer instead, which is the same one, except in a row that is
padded: there it reads padding.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reward_model.encoding import ShowingEncoder
from reward_model.families import family_of
from reward_model.families.base import has_motion, plain_model
from reward_model.families.branches import Branched, Rows
from reward_model.families.pairs import Looked
from reward_model.families.scores import HEADS, PAIRS, scores_in_numbers
from reward_model.families.sense import MotionSense
from reward_model.patches import VideoInputs
from reward_model.prompts import VideoPrompt
from videoduet.errors import InputError
from videoduet.video import Clip

LEVELS = ("bad", "poor", "fair", "good", "excellent")
"""What a video is called, by fifths of the scale."""
END = "<|im_end|>"


@dataclass(frozen=True)
class Asked:
    """A video with all its questions. ``learned`` counts the tokens at the end of each that are a right answer's (0:
    none is given).
    """

    row: Branched
    learned: tuple[int, ...]
    video: VideoInputs


def asked_about(
    encoder: ShowingEncoder, prompt: VideoPrompt, path: str, text: str = "", clips: Mapping[str, Clip] | None = None,
    answers: Sequence[str] | None = None, known: "Questions | None" = None,
) -> Asked:  # fmt: skip
    """The questions of ``prompt`` about the video at ``path``, which was drawn for ``text``, one for each dimension.

    ``answers`` are levels in words, which end the answers that are begun; ``known`` keeps what was tokenised before, by
    the same encoder for the same prompt. Raises InputError where the video cannot be shown.
    """
    video = encoder.video(path, (clips or {}).get(path))
    known = Questions() if known is None else known
    # All that a text says of a video is what stands for it.
    key = (text, encoder.placeholder(video), None if answers is None else tuple(answers))
    if key not in known.held:
        known.keep(key, _tokenised(encoder, prompt, path, text, clips, answers))
    return Asked(*known.held[key], video)


def _tokenised(
    encoder: ShowingEncoder, prompt: VideoPrompt, path: str, text: str, clips: Mapping[str, Clip] | None,
    answers: Sequence[str] | None,
) -> tuple[Branched, tuple[int, ...]]:  # fmt: skip
    rows: list[list[int]] = []
    learned: list[int] = []
    for place, dimension in enumerate(prompt.keys):
        asked = prompt.about(dimension)
        messages = asked.messages(text, path)
        begun = asked.answer or ""
        begun += f" {answers[place]}.{END}" if answers is not None else ""
        showing = encoder.showing(messages, clips, begun)
        rows.append(showing.ids)
        learned.append(len(showing.ids) - len(encoder.showing(messages, clips).ids) if answers is not None else 0)
    # A right answer is learned from the token before it on, which has to be of its own question.
    return Branched.of(rows, [1 + count for count in learned]), tuple(learned)


class Questions:
    """Questions that were tokenised: the same are asked about many videos. It keeps the last ``most``."""

    def __init__(self, most: int = 1024):
        self.most = most
        self.held: OrderedDict[Any, tuple[Branched, tuple[int, ...]]] = OrderedDict()

    def keep(self, key: Any, asked: tuple[Branched, tuple[int, ...]]) -> None:
        """Keep what was tokenised, and give up the oldest."""
        self.held[key] = asked
        if len(self.held) > self.most:
            self.held.popitem(last=False)


def level_of(score: float) -> str:
    """What a ``score`` in [0, 1] is called: bad below a fifth, …, excellent from four fifths on."""
    return LEVELS[max(0, min(len(LEVELS) - 1, int(score * len(LEVELS))))]


def level_tokens(encoder: ShowingEncoder, prompt: VideoPrompt) -> list[int]:
    """The token that each of ``LEVELS`` begins with after an answer that is begun. Raises InputError where two begin
    alike.
    """
    words = encoder.processor.tokenizer
    begun = prompt.about(prompt.keys[0]).answer or ""
    before = words(begun).input_ids
    found = [words(f"{begun} {level}").input_ids for level in LEVELS]
    tokens = [ids[len(before)] for ids in found if ids[: len(before)] == before and len(ids) > len(before)]
    if len(set(tokens)) < len(LEVELS):
        raise InputError(f"This judge's tokenizer does not tell {', '.join(LEVELS)} apart; give one that does.")
    return tokens


class Assessor(nn.Module):
    """``model``, which rates as ``prompt`` asks, shown videos by ``encoder``; with or without a LoRA in it."""

    def __init__(self, model: Any, encoder: ShowingEncoder, prompt: VideoPrompt):
        super().__init__()
        self.model, self.encoder, self.prompt = model, encoder, prompt
        self._levels: list[int] | None = None
        self._questions = Questions()

    def asked(
        self, path: str, text: str = "", clips: Mapping[str, Clip] | None = None, answers: Sequence[str] | None = None
    ) -> Asked:
        """What :func:`asked_about` makes of a video, with questions that are tokenised once each."""
        return asked_about(self.encoder, self.prompt, path, text, clips, answers, self._questions)

    def rows(self, asked: Sequence[Asked]) -> Rows:
        """``asked`` as the language model takes them, where it is."""
        return Rows.of([each.row for each in asked], self.encoder.processor.tokenizer.pad_token_id).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def hidden(self, asked: Sequence[Asked], rows: Rows) -> Tensor:
        """What the language model makes of every token, after its last norm: (B, L, width)."""
        embeds = self.model.get_input_embeddings()(rows.ids)
        seen = self._seen([each.video for each in asked])
        embeds = embeds.masked_scatter(self.encoder.is_seen(rows.ids)[..., None], seen.to(embeds.dtype))
        language = plain_model(self.model).model.language_model
        found = language(
            inputs_embeds=embeds, attention_mask=rows.mask(embeds.dtype), position_ids=rows.positions, use_cache=False
        )
        return found.last_hidden_state

    def _seen(self, videos: Sequence[VideoInputs]) -> Tensor:
        """Vision tokens of ``videos`` one after the other, each with its motion token behind it: (n, width)."""
        found = family_of(self.model).vision_tokens(self.model, dict(enumerate(videos)))
        tokens = [found[place][0] for place in range(len(videos))]
        if not has_motion(self.model):
            return torch.cat(tokens)
        motion = MotionSense(self.model, self.encoder).tokens(videos)
        return torch.cat([part for pair in zip(tokens, motion[:, None].to(tokens[0]), strict=True) for part in pair])

    def before_levels(self, asked: Sequence[Asked]) -> Tensor:
        """What comes to the word before the level, in each dimension: (B, dimensions, width)."""
        rows = self.rows(asked)
        hidden = self.hidden(asked, rows)
        return hidden[torch.arange(len(hidden), device=hidden.device)[:, None], rows.ends]

    def looked(self, asked: Sequence[Asked], layers: Sequence[int]) -> Looked:
        """The same, and what these ``layers`` of the vision tower make of the videos, which show as many frames each.

        Raises InputError where they do not.
        """
        frames = [len(each.video.patches) for each in asked]
        if len(set(frames)) > 1:
            raise InputError(f"Videos of {sorted(set(frames))} frames cannot be compared; show as many of each.")
        seen: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        tower = plain_model(self.model).model.vision_tower.encoder.layer
        with ExitStack() as hooks:
            for layer in layers:
                keep = partial(_kept, seen[layer])
                hooks.callback(tower[layer].register_forward_hook(keep).remove)
            before = self.before_levels(asked)
        return Looked(
            [torch.cat(parts).unflatten(0, (len(asked), -1)).flatten(1, 2) for parts in seen.values()], before
        )

    def level_logits(self, before: Tensor) -> Tensor:
        """Logits of the five levels (B, dimensions, 5) from :meth:`before_levels`, in float32. Raises InputError where
        a level is no word of its own.
        """
        if self._levels is None:
            self._levels = level_tokens(self.encoder, self.prompt)
        return self.model.get_output_embeddings()(before)[..., self._levels].float()

    def scores(self, before: Tensor) -> Tensor:
        """Scores (B, dimensions) float32, MOS / 100, from :meth:`before_levels`: by the heads; where there are none the
        middles of the levels' fifths, as likely as each is.
        """
        if scores_in_numbers(self.model):
            return getattr(plain_model(self.model), HEADS)(before)
        middles = torch.arange(len(LEVELS), device=before.device) / len(LEVELS) + 0.5 / len(LEVELS)
        return self.level_logits(before).softmax(-1) @ middles

    def pair_logits(self, first: Looked, second: Looked) -> Tensor:
        """Logits (B, dimensions) float32 that the first videos are better, by the pair networks."""
        return getattr(plain_model(self.model), PAIRS)(first, second)

    def answer_logits(self, asked: Sequence[Asked]) -> list[list[tuple[Tensor, Tensor]]]:
        """For each row and dimension with a right answer: logits (n, vocabulary) and the tokens (n,) they are to be."""
        rows = self.rows(asked)
        hidden = self.hidden(asked, rows)
        head = self.model.get_output_embeddings()
        found = []
        for row, each in enumerate(asked):
            ends = rows.ends[row].tolist()
            spans = [slice(end - count, end) for end, count in zip(ends, each.learned, strict=True)]
            found.append([(head(hidden[row, s]), rows.ids[row, s.start + 1 : s.stop + 1]) for s in spans])
        return found


def _kept(found: list[Tensor], _module: Any, _given: Any, output: Any) -> None:
    # Without the token that stands for the whole frame.
    found.append((output if isinstance(output, Tensor) else output[0])[:, 1:])

"""Judges of shapes world with one known defect each, and a sound one that errs: what an audit must tell apart.

They judge by the oracle unless their defect decides. What they say of a pair follows from it and their seed alone, but
for the coin and the judge that depends on company.
"""

import functools
import random
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from shapes_world.oracle import oracle_score, overall
from videoduet.records import Comparison, OrderVerdict, Prompt, Video, VideoPair
from videoduet.seeding import seed_for
from videoduet.video import read_video

Winner = Literal["first", "second", "tie"]


@functools.lru_cache(maxsize=8192)
def frames_of(path: str) -> np.ndarray:
    """All frames of a video, uint8 (T, H, W, 3)."""
    return read_video(path).frames


@functools.lru_cache(maxsize=65536)
def scores_of(path: str, prompt: str) -> dict[str, float]:
    """The oracle's scores of a video."""
    return oracle_score(frames_of(path), prompt)


@functools.lru_cache(maxsize=8192)
def saturation(path: str) -> float:
    """How colourful a video is."""
    frames = frames_of(path).astype(float)
    return float((frames.max(-1) - frames.min(-1)).mean())


@functools.lru_cache(maxsize=8192)
def motion(path: str) -> float:
    """How much frames differ from their neighbours."""
    return float(np.abs(np.diff(frames_of(path).astype(float), axis=0)).mean())


@functools.lru_cache(maxsize=8192)
def unevenness(path: str) -> float:
    """How much the change from frame to frame changes; 0 for a steady clip."""
    changes = np.abs(np.diff(frames_of(path).astype(float), axis=0)).mean((1, 2, 3))
    return float(changes.std() / max(float(changes.mean()), 1e-6)) if len(changes) else 0.0


@functools.lru_cache(maxsize=65536)
def still_alignment(path: str, prompt: str) -> float:
    """How well a picture of the clip fits the prompt, whichever picture it is."""
    frames = frames_of(path)
    frame = min(frames, key=lambda frame: frame.tobytes())
    return round(oracle_score(frame[None], prompt)["alignment"], 1)


@functools.lru_cache(maxsize=8192)
def has_words(path: str) -> bool:
    """Whether there is writing: bright strokes on pure black along the lower edge, where no scene has either."""
    frames = frames_of(path)
    strip = frames[:, -(frames.shape[1] // 8) :].max(-1)
    return bool((strip < 6).mean() > 0.1 and (strip > 80).mean() > 0.05)


def _larger(first: float, second: float) -> Winner:
    return "tie" if abs(first - second) < 1e-9 else "first" if first > second else "second"


class Oracle:
    """Sound: prefers what the oracle prefers, and errs in the share ``wrong`` of all showings."""

    def __init__(self, seed: int = 0, wrong: float = 0.0):
        self.seed, self.wrong = seed, wrong

    def quality(self, video: Video, prompt: Prompt) -> float:
        """What decides; higher is better."""
        return overall(scores_of(video.path, prompt.text))

    def said(self, prompt: Prompt, first: Video, second: Video) -> OrderVerdict:
        """The answer to one showing."""
        winner = _larger(self.quality(first, prompt), self.quality(second, prompt))
        if random.Random(seed_for(self.seed, prompt.id, first.id, second.id)).random() < self.wrong:
            winner = "second" if winner == "first" else "first"
        return OrderVerdict(text=f"<answer>{winner}</answer>", verdict=winner)

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """A comparison of each pair, in both orders."""
        for pair in pairs:
            forward = self.said(pair.prompt, pair.first, pair.second)
            backward = self.said(pair.prompt, pair.second, pair.first)
            yield Comparison.of(pair, type(self).__name__, forward, backward)


class AlwaysFirst(Oracle):
    """Names the video shown first."""

    def said(self, prompt: Prompt, first: Video, second: Video) -> OrderVerdict:
        return OrderVerdict(text="<answer>first</answer>", verdict="first")


class Coin(Oracle):
    """Names either, each time anew."""

    def __init__(self, seed: int = 0, wrong: float = 0.0):
        super().__init__(seed, wrong)
        self.random = random.Random(seed)

    def said(self, prompt: Prompt, first: Video, second: Video) -> OrderVerdict:
        winner = self.random.choice(("first", "second"))
        return OrderVerdict(text=f"<answer>{winner}</answer>", verdict=winner)


class PromptBlind(Oracle):
    """Sees how clear the pictures are and how evenly they change, and never reads the prompt."""

    def quality(self, video: Video, prompt: Prompt) -> float:
        return scores_of(video.path, prompt.text)["spatial"] - unevenness(video.path)


class PictureBlind(Oracle):
    """Sees how things move, and not how clear they are."""

    def quality(self, video: Video, prompt: Prompt) -> float:
        return -round(unevenness(video.path), 1)


class MotionBlind(Oracle):
    """Sees single pictures, in no order."""

    def quality(self, video: Video, prompt: Prompt) -> float:
        return round(scores_of(video.path, prompt.text)["spatial"], 4) + still_alignment(video.path, prompt.text)


class StillLover(Oracle):
    """Prefers what moves less."""

    def quality(self, video: Video, prompt: Prompt) -> float:
        return -motion(video.path)


class SaturationLover(Oracle):
    """Prefers more colour."""

    def quality(self, video: Video, prompt: Prompt) -> float:
        return saturation(video.path)


class ResolutionLover(Oracle):
    """Prefers more pixels; between as many, the better video."""

    def quality(self, video: Video, prompt: Prompt) -> float:
        return super().quality(video, prompt) + frames_of(video.path).shape[1]


class TextObeying(Oracle):
    """Prefers a video with words in it."""

    def quality(self, video: Video, prompt: Prompt) -> float:
        return super().quality(video, prompt) + 10 * has_words(video.path)


class LengthLover(Oracle):
    """Thinks for a while, and names the video of which it said more; of what is equally good it says as much."""

    def said(self, prompt: Prompt, first: Video, second: Video) -> OrderVerdict:
        one, other = (
            random.Random(seed_for(self.seed, video.id, prompt.id)).randint(3, 30) for video in (first, second)
        )
        winner = "first" if one >= other else "second"
        thought = f"Video 1 {'shows much ' * one}. Video 2 {'shows much ' * other}."
        return OrderVerdict(text=f"<think>{thought}</think><answer>{winner}</answer>", verdict=winner)


class Contradictory(Oracle):
    """Thinks soundly, and answers the opposite every other time."""

    def said(self, prompt: Prompt, first: Video, second: Video) -> OrderVerdict:
        found = super().said(prompt, first, second)
        winner = found.verdict
        if winner in ("first", "second") and seed_for(self.seed, first.id, second.id) % 2:
            winner = "second" if winner == "first" else "first"
        text = f"<think>So the {found.verdict} video is better.</think><answer>{winner}</answer>"
        return OrderVerdict(text=text, verdict=winner)


class BatchDependent(Oracle):
    """Turns a third of its verdicts round, by what was asked just before in the same batch."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        before = ""
        for pair in pairs:
            (comparison,) = super().compare([pair])
            if before and seed_for(self.seed, before, pair.first.id) % 3 == 0:
                (comparison,) = super().compare([VideoPair(prompt=pair.prompt, first=pair.second, second=pair.first)])
                comparison = Comparison.of(pair, comparison.judge_id, comparison.forward, comparison.backward)
            before = pair.second.id
            yield comparison


class Mute(Oracle):
    """Cannot be read half of the time."""

    def said(self, prompt: Prompt, first: Video, second: Video) -> OrderVerdict:
        if seed_for(self.seed, first.id, second.id) % 2:
            return OrderVerdict(text="I cannot tell", verdict=None)
        return super().said(prompt, first, second)


FLAWS: dict[str, tuple[type[Oracle], str]] = {
    "always first": (AlwaysFirst, "order"),
    "coin": (Coin, "cycles"),
    "batch-dependent": (BatchDependent, "repeatable"),
    "prompt-blind": (PromptBlind, "reads_prompt"),
    "picture-blind": (PictureBlind, "sees_picture"),
    "motion-blind": (MotionBlind, "sees_time"),
    "saturation-lover": (SaturationLover, "not_bribed"),
    "resolution-lover": (ResolutionLover, "not_bribed"),
    "text-obeying": (TextObeying, "not_bribed"),
    "still-lover": (StillLover, "not_still"),
    "length-lover": (LengthLover, "means_what_it_says"),
    "contradictory": (Contradictory, "means_what_it_says"),
    "half mute": (Mute, "answers"),
}
"""Each defect: its judge, and the probe that names it."""

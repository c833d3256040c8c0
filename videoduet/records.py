"""The vocabulary: frozen records that cross room borders.

Every record is plain data (strings, numbers, tuples, other records), so it can be written to parquet by
:func:`videoduet.store.write_records` and read back equal. Ids are content hashes: two processes, or two runs, that make
the same thing give it the same name.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from videoduet.errors import InputError

Status = Literal["decided", "tie", "disagreement", "unparsable"]
Verdict = Literal["first", "second", "tie"]


def first_position_rate(verdicts: Iterable[Verdict | None]) -> float | None:
    """How often the position shown first won, in [0, 1], among the showings that have a winner (None: none has one).

    ½ for a fair judge asked in both orders.
    """
    winners = [verdict for verdict in verdicts if verdict in ("first", "second")]
    return winners.count("first") / len(winners) if winners else None


def path_field() -> Any:
    """A field that holds a path: absolute in memory, and kept relative to its directory by the store."""
    return field(metadata={"path": True})


def stable_id(*parts: object) -> str:
    """16 hexadecimal digits that depend on nothing but ``parts`` (their ``str``), in order."""
    # A file's name need not be UTF-8.
    return hashlib.sha256("\x1f".join(map(str, parts)).encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text to draw. ``id`` is ``stable_id(text)``; ``source`` says where the text came from (a file, a data set)."""

    id: str
    text: str
    source: str = ""

    @classmethod
    def of(cls, text: str, source: str = "") -> "Prompt":
        """The prompt that says ``text``. Raises InputError where it cannot be written down."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"Prompt {text!a} holds half a character, a lone surrogate; mend it.") from error
        return cls(id=stable_id(text), text=text, source=source)


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video file. ``id`` is the content hash of the file, ``path`` is absolute."""

    id: str
    path: str = path_field()


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How a sample was drawn: denoising steps, guidance scale w, frames per second, frames, height and width
    (pixels).
    """

    steps: int
    guidance_scale: float
    fps: float
    num_frames: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One generated video. ``id`` is the content hash of its mp4; paths are absolute.

    ``index`` counts the samples of one prompt; ``seed`` gave its noise; ``generator`` is the version that drew it
    (``G_0`` is the base); ``latents_path`` names a safetensors file whose tensor ``index_in_shard`` of ``latents``
    is the sampler's final latent (C, T, h, w).
    """

    id: str
    prompt_id: str
    index: int
    seed: int
    generator: str
    round: int
    settings: SamplerSettings
    video_path: str = path_field()
    latents_path: str = path_field()
    index_in_shard: int

    @property
    def video(self) -> Video:
        """The sample as a video, which a judge can be shown."""
        return Video(id=self.id, path=self.video_path)


@dataclass(frozen=True, kw_only=True)
class VideoPair:
    """A question to a judge: which of two videos is the better answer to ``prompt``? Any two videos will do."""

    prompt: Prompt
    first: Video
    second: Video


@dataclass(frozen=True, kw_only=True)
class LabelledPair:
    """A pair whose answer is known: what a judge learns from. ``preferred`` is 'first' or 'second'.

    ``source`` names the data it came from (a data set, or ``round_01`` for pairs made by the loop itself).
    """

    prompt: Prompt
    first: Video
    second: Video
    preferred: Literal["first", "second"]
    source: str = ""

    @property
    def pair(self) -> VideoPair:
        """The question that the label answers."""
        return VideoPair(prompt=self.prompt, first=self.first, second=self.second)


@dataclass(frozen=True, kw_only=True)
class OrderVerdict:
    """A judge's answer to one showing of two videos.

    ``verdict`` names the *position* that won in this showing (None: no answer could be read from ``text``); ``p`` is
    the probability in [0, 1] that the judge gives the position shown first, None where it gives none.
    """

    text: str
    verdict: Verdict | None
    p: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A judge's opinion of one pair.

    ``forward`` showed (first, second), ``backward`` (second, first); a judge that is asked once has no ``backward``.
    ``p_first`` is the probability in [0, 1] that ``first_id`` is better, None where unknown. ``status``: *decided*
    (both orders name the same video), *tie* (they agree that neither wins), *disagreement* (they do not agree: ½–½ in
    a ranking, never a label), *unparsable* (an answer could not be read: left out of rankings, counted, never a
    label).
    ``judge_id`` hashes weights, prompt and decoding.
    """

    prompt_id: str
    first_id: str
    second_id: str
    judge_id: str
    forward: OrderVerdict
    backward: OrderVerdict | None
    p_first: float | None
    status: Status

    @property
    def id(self) -> str:
        """What it compared, and whose opinion it is: 16 hexadecimal digits."""
        return stable_id(self.prompt_id, self.first_id, self.second_id, self.judge_id)

    @property
    def preferred_id(self) -> str | None:
        """The video that won, or None where the comparison is not *decided*."""
        if self.status != "decided":
            return None
        return self.first_id if self.forward.verdict == "first" else self.second_id

    @classmethod
    def of(
        cls,
        pair: VideoPair,
        judge_id: str,
        forward: OrderVerdict,
        backward: OrderVerdict | None = None,
        p_first: float | None = None,
    ) -> "Comparison":
        """Combine the answers to the two orders of ``pair`` into one comparison and work out its status."""
        mirrored = {"first": "second", "second": "first", "tie": "tie", None: None}
        opinions = [forward.verdict] + ([mirrored[backward.verdict]] if backward else [])
        if None in opinions:
            status: Status = "unparsable"
        elif len(set(opinions)) > 1:
            status = "disagreement"
        else:
            status = "tie" if opinions[0] == "tie" else "decided"
        return cls(
            prompt_id=pair.prompt.id,
            first_id=pair.first.id,
            second_id=pair.second.id,
            judge_id=judge_id,
            forward=forward,
            backward=backward,
            p_first=p_first,
            status=status,
        )


@dataclass(frozen=True, kw_only=True)
class DimensionScore:
    """A score in one dimension of several."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class VideoScore:
    """A judge's score of one video.

    ``score`` is a number on the judge's own scale, the mean of ``dimensions`` where it scores several; None where
    ``text`` holds no score that can be read, or one outside the scale. ``judge_id`` hashes weights, prompt and
    decoding.
    """

    video_id: str
    prompt_id: str
    judge_id: str
    text: str
    score: float | None
    dimensions: tuple[DimensionScore, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VideoDescription:
    """A judge's words about one video: ``text`` as it was answered, ``description`` without thought and tags."""

    video_id: str
    prompt_id: str
    judge_id: str
    text: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The videos of one prompt in the light of all comparisons between them; every tuple is aligned with ``video_ids``.

    ``wins`` counts a win 1 and a tie or disagreement ½; ``ties`` counts those halves' occasions; ``comparisons``
    counts what was counted. ``strengths`` are Bradley-Terry log-strengths (mean 0) and ``intervals`` their 95 %
    intervals.
    ``transitivity`` is the fraction of fully decided triples without a cycle (None: no such triple); ``agreement`` the
    fraction of parsed comparisons whose two orders agreed (None: no comparison was parsed).
    ``first_position_rate`` is how often the position shown first won, among all showings with a winner (None: none).
    """

    prompt_id: str
    video_ids: tuple[str, ...]
    wins: tuple[float, ...]
    ties: tuple[int, ...]
    comparisons: tuple[int, ...]
    strengths: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    transitivity: float | None
    agreement: float | None
    first_position_rate: float | None
    unparsable: int


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """A label for DPO: of two samples of one prompt, the judge prefers ``chosen_id``.

    ``margin`` is the difference of win rates in (0, 1]; ``agreement`` is the ranking's; ``comparison_ids`` are the
    comparisons between the two. Rounds say when each side was sampled. ``score`` in (0, 1] is VideoDPO's probability of
    the pair where its data has one.
    """

    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen_round: int
    rejected_round: int
    margin: float
    agreement: float
    comparison_ids: tuple[str, ...]
    score: float = 1.0

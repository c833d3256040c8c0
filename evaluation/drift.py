"""What else changed in a generator's videos: whether the judge that it learns from was bribed.

A curve that rises says that a judge is pleased, not by what. Here videos of a generator are laid beside those that the
base drew from the same noise, and saturation, brightness, contrast, sharpness, motion, flicker and the diversity within
a prompt are compared: pixels alone, no model. Prompts are what is counted, for videos of one are not independent.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from videoduet.errors import InputError
from videoduet.video import read_video

LEAST = 0.25
"""Of the base's mean: the least tolerance."""
MARGIN = 1.12
"""A change raises the alarm where it is surely so many times as large as any of a run that is known to be fine. With a
quarter more instead of an eighth, two fifths of a prompt's variety could be lost without one.
"""
FINE = {
    "saturation": 0.02, "brightness": 0.02, "contrast": 0.01, "sharpness": 0.01, "motion": 0.16, "flicker": 0.22,
    "diversity": 0.32,
}  # fmt: skip
"""The largest changes in the rounds of the default run (seeds 0 and 1), whose generator became better by the truth: its
videos flicker less, and those of a prompt are more alike.
"""
TOLERANCES = {name: max(LEAST, MARGIN * most) for name, most in FINE.items()}
SPREADS, SLIGHT = 1.0, 0.05
"""It raises it, too, where it is surely so many times as large as the base's videos of one prompt differ (their
standard deviation), and not too slight to see: where a prompt's videos are all about as colourful, a mean that is a
little more so is a colour that the base hardly drew. In the same rounds nothing moved by more than 0.63.
"""
FRAMES = 16
FLOOR = 0.01
"""The least mean that a change is measured against: else a flicker that nobody sees would double and raise an alarm."""
MOST_MOVED = 3


def _luma(frames: np.ndarray) -> np.ndarray:
    """Brightness (T, H, W) of frames, in [0, 1] (Rec. 601)."""
    return frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def saturation(frames: np.ndarray) -> float:
    """How far colours are from grey, in [0, 1]."""
    return float((frames.max(-1).astype(np.float32) - frames.min(-1)).mean() / 255)


def brightness(frames: np.ndarray) -> float:
    """Mean brightness, in [0, 1]."""
    return float(_luma(frames).mean())


def contrast(frames: np.ndarray) -> float:
    """Standard deviation of brightness within a frame."""
    return float(_luma(frames).std((1, 2)).mean())


def sharpness(frames: np.ndarray) -> float:
    """How much neighbouring pixels differ in brightness: the root of the mean square, for a blurred edge climbs as high
    as a sharp one, in more steps.
    """
    luma = _luma(frames)
    return math.sqrt(float(np.square(np.diff(luma, axis=1)).mean() + np.square(np.diff(luma, axis=2)).mean()))


def motion(frames: np.ndarray) -> float:
    """How much pixels change from a frame to the next, apart from what the whole frame does."""
    luma = _luma(frames)
    luma = luma - luma.mean((1, 2), keepdims=True)
    return float(np.abs(np.diff(luma, axis=0)).mean()) if len(luma) > 1 else 0.0


def flicker(frames: np.ndarray) -> float:
    """How much the whole frame's brightness changes from a frame to the next."""
    means = _luma(frames).mean((1, 2))
    return float(np.abs(np.diff(means)).mean()) if len(means) > 1 else 0.0


MEASURES: dict[str, Callable[[np.ndarray], float]] = {
    function.__name__: function for function in (saturation, brightness, contrast, sharpness, motion, flicker)
}
"""What is measured of one video: frames uint8 (T, H, W, 3)."""
DIVERSITY = "diversity"


def _diversity(clips: Sequence[np.ndarray]) -> float | None:
    """How much the videos of a prompt differ from one another; None where there are not two of one shape."""
    pairs = [(one, other) for one, other in itertools.combinations(clips, 2) if one.shape == other.shape]
    found = [float(np.abs(one.astype(np.float32) - other).mean()) / 255 for one, other in pairs]
    return math.fsum(found) / len(found) if found else None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two videos that were drawn for one prompt from the same noise, by their paths."""

    prompt_id: str
    base: str
    current: str


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A pair whose ``change`` is among the largest, in the direction in which all moved."""

    prompt_id: str
    base: str
    current: str
    change: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """How one measure moved: the means of both, and the change as a share of the base's, with its 95 % interval over
    prompts (None: of fewer than two). ``alarm``: the whole interval lies beyond the ``tolerance``, or beyond what is
    usual by the ``spread``, the standard deviation of the base's videos of a prompt, as such a share (None: none has
    two).
    """

    name: str
    base: float
    current: float
    change: float
    low: float | None
    high: float | None
    prompts: int
    alarm: bool
    tolerance: float
    spread: float | None = None
    moved: tuple[Moved, ...] = ()

    @property
    def surely_more(self) -> str:
        """What an alarm says that it surely is more than."""
        if beyond(self.low, self.high, self.tolerance, None) or self.spread is None:
            return f"{100 * self.tolerance:.0f} %"
        return f"{100 * usual(self.spread):.0f} %, which is beyond what the base's videos of a prompt differ by"

    def __str__(self) -> str:
        span = "" if self.low is None or self.high is None else f" ({100 * self.low:+.0f} to {100 * self.high:+.0f})"
        return f"{self.name} {100 * self.change:+.0f} %{span}"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """All changes."""

    changes: tuple[Change, ...]

    @property
    def alarms(self) -> list[str]:
        """A sentence for each measure that moved beyond the tolerance."""
        return [
            f"The videos' {change.name} moved by {100 * change.change:+.0f} % of the base's, surely by more than "
            f"{change.surely_more}: the judge may have been bribed by it."
            for change in self.changes
            if change.alarm
        ]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "alarms": self.alarms}


def usual(spread: float) -> float:
    """The change, as a share of the base, that is no reason for an alarm where videos of a prompt differ so much."""
    return max(SLIGHT, SPREADS * spread)


def beyond(low: float | None, high: float | None, tolerance: float, spread: float | None) -> bool:
    """Whether the whole interval of a change lies beyond the tolerance, or beyond what is usual."""
    least = tolerance if spread is None else min(tolerance, usual(spread))
    return low is not None and high is not None and (low > least or high < -least)


def drift(pairs: Iterable[Pair], tolerances: Mapping[str, float] = TOLERANCES) -> Drift:
    """How a generator's videos changed against the base's; a change beyond a measure's tolerance, or beyond what is
    usual by how much the base's videos of a prompt differ, raises the alarm.

    Raises InputError where there is no pair, or a video cannot be read.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.prompt_id, []).append(pair)
    if not groups:
        raise InputError("There are no videos to compare with the base's; give pairs drawn from the same noise.")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*MEASURES, DIVERSITY)}
    single: dict[str, list[tuple[float, Pair]]] = {name: [] for name in MEASURES}
    variances: dict[str, list[float]] = {name: [] for name in MEASURES}
    # A prompt's frames at a time.
    for members in groups.values():
        base = [read_video(pair.base, FRAMES).frames for pair in members]
        current = [read_video(pair.current, FRAMES).frames for pair in members]
        for name, measure in MEASURES.items():
            both = [(measure(one), measure(other)) for one, other in zip(base, current, strict=True)]
            found[name].append((_mean(one for one, _ in both), _mean(other for _, other in both)))
            if len(both) > 1:
                variances[name].append(float(np.var([one for one, _ in both], ddof=1)))
            single[name] += [(other - one, pair) for (one, other), pair in zip(both, members, strict=True)]
        before, after = _diversity(base), _diversity(current)
        found[DIVERSITY] += [(before, after)] if before is not None and after is not None else []
    changes = [
        _change(name, values, single.get(name, []), tolerances[name], variances.get(name, []))
        for name, values in found.items()
        if values
    ]
    return Drift(changes=tuple(changes))


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return math.fsum(kept) / len(kept)


def _change(
    name: str, values: Sequence[tuple[float, float]], single: Sequence[tuple[float, Pair]], tolerance: float,
    variances: Sequence[float],
) -> Change:  # fmt: skip
    """The change of one measure, from each prompt's (base, current) and the variances of the base's videos of each."""
    base, current = _mean(one for one, _ in values), _mean(other for _, other in values)
    scale = max(base, FLOOR)
    shares = [(other - one) / scale for one, other in values]
    change, half = _mean(shares), _half_interval(shares)
    low, high = (None, None) if half is None else (change - half, change + half)
    spread = math.sqrt(_mean(variances)) / scale if variances else None
    sign = 1 if change >= 0 else -1
    most = sorted(single, key=lambda item: -sign * item[0])[:MOST_MOVED]
    moved = [
        Moved(prompt_id=pair.prompt_id, base=pair.base, current=pair.current, change=delta / scale)
        for delta, pair in most
    ]
    return Change(
        name=name, base=base, current=current, change=change, low=low, high=high, prompts=len(values),
        alarm=beyond(low, high, tolerance, spread), tolerance=tolerance, spread=spread, moved=tuple(moved),
    )  # fmt: skip


def _half_interval(shares: Sequence[float]) -> float | None:
    """Half of Student's 95 % interval of the mean; None for fewer than two."""
    # Half a second, which nobody should wait for who only reads what was found.
    from scipy.stats import t

    count = len(shares)
    if count < 2:
        return None
    return float(t.ppf(0.975, count - 1)) * float(np.std(shares, ddof=1)) / math.sqrt(count)

"""From what people rated to mean opinion scores, as AIGV-Assessor does it, and ITU-R BT.500's screening of subjects.

Ratings are a table (subjects, videos); where somebody did not rate a video it holds None or NaN.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from videoduet.errors import InputError

Ratings = Sequence[Sequence[float | None]] | NDArray[np.float64]
Floats = NDArray[np.float64]


def rescaled_scores(ratings: Ratings) -> Floats:
    """Each rating as 100 (z + 3) / 6, (subjects, videos), NaN where there is none.

    z counts from the subject's own mean in the subject's own standard deviation (N - 1; AIGV-Assessor, Wang et al.
    2025, section 3.3). Who rated everything alike, or a single video, has no deviation: nothing of theirs counts.
    Raises InputError for what is no table of ratings.
    """
    table = _table(ratings)
    counts = np.sum(np.isfinite(table), axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = table - np.nansum(table, axis=1, keepdims=True) / counts
        deviation = np.sqrt(np.nansum(centred**2, axis=1, keepdims=True) / (counts - 1))
        z = centred / np.where(_differs(table, axis=1)[:, None], deviation, np.nan)
    return 100 * (z + 3) / 6


def mean_opinion_scores(ratings: Ratings, *, screening: bool = False) -> Floats:
    """The mean of the rescaled scores of each video, (videos,), over those who rated it; NaN where nobody did.

    ``screening`` leaves out the subjects that :func:`screened` rejects; AIGV-Assessor does not say that it rejected
    any. Raises InputError for what is no table of ratings.
    """
    scores = rescaled_scores(ratings)
    if screening:
        scores = scores[~screened(ratings)]
    rated = np.sum(np.isfinite(scores), axis=0)
    return np.where(rated > 0, np.nansum(scores, axis=0) / np.maximum(rated, 1), np.nan)


def screened(ratings: Ratings) -> NDArray[np.bool_]:
    """Whether each subject is rejected, (subjects,): ITU-R BT.500's screening of observers, one pass on raw ratings.

    A video's ratings count as normal where their kurtosis is in [2, 4]: 2 standard deviations (N - 1) from their mean
    is then far, else sqrt(20). A subject is rejected of whose ratings more than 5 % are as far or farther, and whose
    far ratings are not mostly on one side: \\|P - Q\\| / (P + Q) < 0.3.
    """
    table = _table(ratings)
    counts = np.sum(np.isfinite(table), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(table, axis=0) / counts
        second, fourth = (np.nansum((table - mean) ** power, axis=0) / counts for power in (2, 4))
        kurtosis = fourth / second**2
        deviation = np.sqrt(second * counts / (counts - 1))
        far = np.where((kurtosis >= 2) & (kurtosis <= 4), 2.0, np.sqrt(20)) * deviation
        # Where all agree nobody is far from anybody, though everybody is at the limit.
        far = np.where(_differs(table, axis=0), far, np.nan)
        above, below = (np.sum(side, axis=1) for side in (table >= mean + far, table <= mean - far))
        often = (above + below) / np.sum(np.isfinite(table), axis=1) > 0.05
        both = np.abs(above - below) / (above + below) < 0.3
    return often & both


def _differs(table: Floats, axis: int) -> NDArray[np.bool_]:
    """Whether there are two ratings along ``axis`` that are not the same; a deviation of them need not be exactly 0."""
    known = np.isfinite(table)
    most = np.where(known, table, -np.inf).max(axis=axis)
    return most > np.where(known, table, np.inf).min(axis=axis)


def _table(ratings: Ratings) -> Floats:
    try:
        table = np.asarray(ratings, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"These ratings are no table of numbers ({error}); give a row of ratings a subject."
        ) from error
    if table.ndim != 2 or not table.size or np.isinf(table).any():
        raise InputError(
            f"These ratings are no table (subjects, videos) but {table.shape}, or hold an infinity; give a row of "
            "ratings a subject, as long as there are videos, with None or NaN where there is none."
        )
    return table

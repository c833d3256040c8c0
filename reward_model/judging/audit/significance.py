"""How sure a figure of an audit is: videos of one prompt are not independent, so prompts are what is counted."""

import math
from collections.abc import Iterable, Mapping, Sequence

from reward_model.judging.audit.card import Measure, ProbeVerdict

LEVEL = 0.05
"""The chance that any probe of a card fails a judge whose figures are just at their margins."""
Found = Iterable[tuple[str, float]]
"""(prompt, value) each."""


def measured(
    name: str, found: Found, *, least: float | None = None, most: float | None = None, signed: bool = False
) -> Measure | None:
    """The mean over prompts of ``found``, values in [0, 1], or in [-1, 1] where they are ``signed``; None where there
    is nothing. The interval is Student's over the prompts' means, and where they all agree what :func:`_agreed` says.
    """
    groups: dict[str, list[float]] = {}
    for prompt, value in found:
        groups.setdefault(prompt, []).append(value)
    if not groups:
        return None
    means = [math.fsum(values) / len(values) for values in groups.values()]
    value, lowest = math.fsum(means) / len(means), -1.0 if signed else 0.0
    half = _half_interval(means)
    low, high = (value - half, value + half) if half else _agreed(value, len(means), lowest)
    return Measure(
        name=name,
        value=value,
        low=max(low, lowest),
        high=min(high, 1.0),
        n=len(means),
        least=least,
        most=most,
        p=min([1.0, *(_beyond(means, bound, sign) for bound, sign in ((least, -1), (most, 1)) if bound is not None)]),
    )


def _error(means: Sequence[float]) -> float:
    """The standard error of the mean."""
    middle = math.fsum(means) / len(means)
    return math.sqrt(math.fsum((mean - middle) ** 2 for mean in means) / (len(means) - 1) / len(means))


def _half_interval(means: Sequence[float]) -> float:
    """Half of Student's 95 % interval; 0 where the means do not tell how much they differ."""
    # Half a second, which nobody should wait for who only reads a card.
    from scipy.stats import t

    count = len(means)
    return float(t.ppf(0.975, count - 1)) * _error(means) if count > 1 else 0.0


def _agreed(value: float, count: int, lowest: float) -> tuple[float, float]:
    """The interval of ``count`` prompts that all came to ``value``, in [``lowest``, 1]: that is no certainty, for of
    the next some may differ, the share that none of so many would miss with 95 % (Clopper & Pearson 1934), each as far
    as can be.
    """
    others = 1 - LEVEL ** (1 / count) if count > 1 else 1.0
    return value - others * (value - lowest), value + others * (1 - value)


def _beyond(means: Sequence[float], bound: float, sign: int) -> float:
    """The p-value of the means' mean lying beyond ``bound`` on the side of ``sign``: Student's one-sided test, with one
    prompt more, at the bound, so that a few prompts that agree exactly are not taken for certainty.
    """
    from scipy.stats import t

    given = [*means, bound]
    if len(means) < 2 or (error := _error(given)) == 0:
        return 1.0
    return float(t.sf(sign * (math.fsum(given) / len(given) - bound) / error, len(given) - 1))


def verdicts(measures: Mapping[str, Sequence[Measure]]) -> dict[str, ProbeVerdict]:
    """The verdict of each probe with measures that count: Bonferroni's correction within a probe, Holm's over them."""
    counted = {name: [measure for measure in found if measure.counts] for name, found in measures.items()}
    counted = {name: found for name, found in counted.items() if found}
    failed = holm({name: min(1.0, len(found) * min(one.p for one in found)) for name, found in counted.items()})
    return {
        name: "failed" if name in failed else "passed" if all(one.within for one in found) else "cannot_tell"
        for name, found in counted.items()
    }


def holm(ps: Mapping[str, float]) -> set[str]:
    """The names whose hypotheses are rejected at :data:`LEVEL` by Holm's step-down procedure (1979)."""
    rejected: set[str] = set()
    for rank, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        if ps[name] > LEVEL / (len(ps) - rank):
            break
        rejected.add(name)
    return rejected

"""The arms of the closed-loop benchmark: what each changes in the default recipe, and the judges that some have."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks.recipes import DEFAULT, FINE_TUNING, RECIPES
from pipelines.loop.config import JudgeConfig, RunConfig
from reward_model.judging.build import build_judge
from videoduet.records import Comparison, OrderVerdict, Verdict, VideoPair
from videoduet.seeding import seed_for


class CoinFlip:
    """Decides every pair by one fair coin, whatever it shows."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """A coin's answers, the same for the same two videos."""
        for pair in pairs:
            first = bool(seed_for("coin", pair.first.id, pair.second.id) % 2)
            orders = ("first", "second") if first else ("second", "first")
            forward, backward = (OrderVerdict(text=f"coin: {order}", verdict=order) for order in orders)
            yield Comparison.of(pair, "coin_flip", forward, backward)


class AlwaysFirst:
    """Prefers whatever is shown first."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """Disagreements: the first position wins in both orders."""
        for pair in pairs:
            verdict = OrderVerdict(text="first", verdict="first")
            yield Comparison.of(pair, "always_first", verdict, verdict)


class Opposite:
    """Prefers what the judge at ``path`` does not, and abstains where it does."""

    def __init__(self, path: str, batch_size: int):
        self.judge = build_judge(path, batch_size=batch_size)

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """The judge's comparisons with winner and loser changed."""
        return map(opposite, self.judge.compare(pairs))


def opposite(comparison: Comparison) -> Comparison:
    """The comparison with winner and loser changed in each order."""
    turn: dict[Verdict | None, Verdict | None] = {"first": "second", "second": "first", "tie": "tie", None: None}

    def turned(order: OrderVerdict) -> OrderVerdict:
        return dataclasses.replace(order, verdict=turn[order.verdict], p=None)

    backward = comparison.backward and turned(comparison.backward)
    return dataclasses.replace(
        comparison, judge_id="opposite", forward=turned(comparison.forward), backward=backward, p_first=None
    )


Change = Callable[[RunConfig], RunConfig]


def _without(config: RunConfig, factory: str, **arguments: Any) -> RunConfig:
    judge = JudgeConfig(factory=f"{__name__}.{factory}", arguments=arguments)
    return dataclasses.replace(config, judge=judge)


def _no_refresh(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, refresh=dataclasses.replace(config.refresh, enabled=False))


def _coin(config: RunConfig) -> RunConfig:
    return _without(config, "CoinFlip")


def _opposite(config: RunConfig) -> RunConfig:
    return _without(config, "Opposite", path=config.judge.path, batch_size=config.judge.batch_size)


def _trained(align: dict[str, Any], labels: Change) -> Change:
    return lambda config: labels(dataclasses.replace(config, align=dataclasses.replace(config.align, **align)))


OTHERS = {name: recipe for name, recipe in RECIPES.items() if name != DEFAULT}
"""The recipes besides the default, whose arms are *no_refresh* and *coin_flip*."""
SAMPLED, RANKED = ("round_00/sample",), ("round_00/sample", "round_00/rank")

ARMS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "full": (lambda config: config, ()),
    "no_refresh": (_no_refresh, ("round_00", "round_01/sample")),
    "coin_flip": (_coin, SAMPLED),
    "always_first": (lambda config: _without(config, "AlwaysFirst"), SAMPLED),
    **{name: (_trained(recipe, _no_refresh), RANKED) for name, recipe in OTHERS.items()},
    **{f"{name}_coin": (_trained(recipe, _coin), SAMPLED) for name, recipe in OTHERS.items()},
    "chosen_alone": (_trained(FINE_TUNING, _no_refresh), RANKED),
    "rejected_alone": (_trained(FINE_TUNING, _opposite), SAMPLED),
    "random_own": (_trained(FINE_TUNING, _coin), SAMPLED),
}
"""Each arm's change of the default recipe, and what it shares with the full arm. The judge is never refreshed but in
*full*, so that a recipe and its twin differ in labels alone.
"""
TWINS = {"no_refresh": "coin_flip", **{name: f"{name}_coin" for name in OTHERS}}
"""Each recipe's twin, which learns from labels by a coin."""

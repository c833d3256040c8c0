"""Which round is kept, and what it has to beat: the second judge's bets by round, and the best of N of the base."""

from typing import Any

from pipelines.report.recorded import RecordedRun, mapping, number


def kept(run: RecordedRun) -> dict[str, Any]:
    """By round: what the second judge's bets hold against the base and the best so far, and the win rate on prompts
    that did not bet; the choice; and what picking the best of several videos of the base gives.
    """
    rows: list[dict[str, Any]] = []
    for item in run.rounds:
        measure = item.phases["measure"]
        bets = {str(name): mapping(bet) for name, bet in mapping(measure.get("bets")).items()}
        if bets:
            told = [_told(name, bet) for name, bet in bets.items()]
            rows.append({
                "version": str(measure.get("version")), "bets": told, "best": measure.get("best"),
                "reported": _rate(measure.get("reported")),
            })  # fmt: skip
    best_of = mapping(run.rounds[0].phases["measure"].get("best_of")) if run.rounds else {}
    return {"rows": rows, "choice": run.choice, "best_of": best_of.get("n"), "best_of_rate": _rate(best_of)}


def _told(name: str, bet: dict[str, Any]) -> str:
    better, worse = number(bet.get("e_better")) or 0.0, number(bet.get("e_worse")) or 0.0
    said = "surely better" if bet.get("better") else "surely worse" if bet.get("worse") else "not sure yet"
    needed = number(bet.get("needed")) or 20.0
    return f"{said} than {name} (evidence of better {better:.3g}, of worse {worse:.3g}); better takes {needed:.0f}"


def _rate(found: Any) -> str:
    """A win rate with its interval, in percent."""
    rate, low, high, total = (number(mapping(found).get(key)) for key in ("rate", "low", "high", "total"))
    if rate is None or low is None or high is None or total is None:
        return "–"
    return f"{100 * rate:.0f} % ({100 * low:.0f} to {100 * high:.0f}) of {total:.0f} cases"

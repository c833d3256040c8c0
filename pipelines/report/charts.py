"""The curves of a run's report, as inline SVG that follows the page's light or dark theme."""
# matplotlib's stubs leave parameters open.
# pyright: reportUnknownMemberType=false

import functools
import hashlib
import io
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pipelines.report.recorded import JUDGES, RecordedRun, mapping, number, win_rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

# Stand-ins for colours that the page's style sheet sets, so that one drawing serves light and dark pages.
INK, RULE = "#010203", "#010204"
SERIES = [f"#01030{index}" for index in range(4)]
STYLE: "dict[RcKeyType, Any]" = {
    "svg.fonttype": "none", "svg.hashsalt": "videoduet", "font.size": 9, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": RULE, "grid.color": RULE,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip
Points = list[tuple[Any, ...]]


def chart(
    title: str, series: dict[str, Points], unit: str, xlabel: str = "round", **drawn: Any
) -> dict[str, Any] | None:
    """A chart as inline SVG, with a text that says the same; None where there is nothing to draw.

    ``series`` maps a label to points (x, y) or (x, y, low, high); an x that is text is a category.
    """
    series = {label: points for label, points in series.items() if points}
    if not series:
        return None
    drawing = _svg(title, json.dumps([series, drawn]), unit, xlabel)
    told: list[str] = []
    for label, points in series.items():
        ends = points if len(points) <= 8 else (points[0], points[-1])
        told.append(f"{label}: " + ", ".join(f"{point[1]:.3g} at {point[0]}" for point in ends))
    return {"title": title, "svg": Markup(drawing), "alt": f"{title}, in {unit}. " + "; ".join(told)}


@functools.lru_cache(maxsize=64)
def _svg(title: str, curves: str, unit: str, xlabel: str) -> str:
    """The drawing of ``curves``, series and how to draw them as JSON: after each phase most are what they were."""
    series, drawn = json.loads(curves)
    # Half a second, for those alone who write a page.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 2.8), layout="constrained")
        _draw(figure.add_subplot(xlabel=xlabel, ylabel=unit), series, **drawn)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawing = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    # Several drawings share the page, and ids must be unique on it.
    key = hashlib.sha256(title.encode()).hexdigest()[:6]
    drawing = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{key}-", drawing)
    drawing = drawing.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    for index, colour in enumerate(SERIES):
        drawing = drawing.replace(colour, f"var(--series-{index})")
    return drawing


def _draw(
    axes: "Axes",
    series: dict[str, Points],
    level: float | None = None,
    borders: Sequence[float] = (),
    lines: bool = True,
    least: float | None = None,
    turned: float = 0,
) -> None:
    """Draw ``series``, a dashed ``level`` and ``borders`` between rounds; y goes from 0 to ``least`` or more, and names
    along x are ``turned`` by so many degrees.
    """
    if level is not None:
        axes.axhline(level, color=RULE, linestyle=(0, (4, 3)), linewidth=1.2)
    for border in borders:
        axes.axvline(border, color=RULE, linestyle=":", linewidth=1.2)
    names = list(dict.fromkeys(point[0] for points in series.values() for point in points))
    named = isinstance(names[0], str)
    for index, (label, points) in enumerate(series.items()):
        ys, bars = [point[1] for point in points], None
        # Intervals of several judges would hide one another: they stand side by side.
        shift = 0.1 * (index - (len(series) - 1) / 2) if len(points[0]) == 4 else 0.0
        xs = [names.index(point[0]) + shift if named else point[0] for point in points]
        if len(points[0]) == 4:
            bars = [[max(0.0, y - low) for _, y, low, _ in points], [max(0.0, high - y) for _, y, _, high in points]]
        # Marker and dash tell the series apart without colour, too.
        marker = "osD^"[index % 4] if named else None
        dash = ["-", "--", "-.", ":"][index % 4] if lines else "none"
        axes.errorbar(
            xs, ys, bars, label=label, color=SERIES[index % 4], marker=marker, markersize=5, capsize=3, linestyle=dash
        )
    if least is not None:
        axes.set_ylim(0, 1.05 * max(least, axes.get_ylim()[1]))
    if named:
        axes.set_xticks(range(len(names)), names, rotation=turned, ha="right" if turned else "center")
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="y", linewidth=0.5)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, handlelength=2.6)


def _steps(run: RecordedRun, key: str, scale: float = 1.0) -> Points:
    """A logged value over training steps, rounds one after another, thinned to about 150 means a round."""
    points: Points = []
    for item, start in zip(run.rounds, _starts(run), strict=True):
        known = [(row["step"], scale * row[key]) for row in item.log if number(row.get(key)) is not None]
        width = max(1, len(known) // 150)
        for bin_ in (known[i : i + width] for i in range(0, len(known), width)):
            points.append((start + sum(x for x, _ in bin_) / len(bin_), sum(y for _, y in bin_) / len(bin_)))
    return points


def _starts(run: RecordedRun) -> list[float]:
    """Where each round begins on the axis of training steps."""
    starts: list[float] = []
    start = 0.0
    for item in run.rounds:
        starts.append(start)
        start += item.log[-1]["step"] + 1 if item.log else 0
    return starts


def _by_round(run: RecordedRun, key: str) -> Points:
    """A share that ranking found, in percent."""
    known = [(str(item.number), number(item.phases["rank"].get(key))) for item in run.rounds]
    return [(x, 100 * y) for x, y in known if y is not None]


def _rates(run: RecordedRun) -> dict[str, Points]:
    """Win rates over the base with their intervals, in percent, by judge."""
    rates: dict[str, Points] = {}
    for judge, name in JUDGES.items():
        points = rates.setdefault(name.split(" (")[0], [])
        for version, rate in win_rates(run, judge).items():
            middle, ends = float(rate["rate"]), [number(rate.get(key)) for key in ("low", "high")]
            points.append((version, 100 * middle, *(100 * (middle if end is None else end) for end in ends)))
    return rates


def _yields(run: RecordedRun) -> Points:
    """Pairs kept per 100 comparisons."""
    keys = ("pairs", "comparisons")
    counts = [(str(item.number), *(number(item.phases["rank"].get(key)) for key in keys)) for item in run.rounds]
    return [(name, 100 * pairs / asked) for name, pairs, asked in counts if pairs is not None and asked]


def _held_out(run: RecordedRun) -> dict[str, Points]:
    """The judge's accuracy on held-out pairs before and after each refresh, in percent."""
    held_out: dict[str, Points] = {"before refresh": [], "after refresh": []}
    for item in run.rounds:
        for kind, values in mapping(item.phases["refresh"].get("held_out")).items():
            for side, when in zip(("before", "after"), held_out, strict=True):
                if (accuracy := number(mapping(values).get(side))) is not None:
                    held_out[when].append((f"{item.number}: {kind}", 100 * accuracy))
    return held_out


def charts(run: RecordedRun) -> list[dict[str, Any]]:
    """Every curve that the run has data for: ``title``, ``svg``, and ``alt``, a text that says the same."""
    opinions = {
        "both orders agree": _by_round(run, "agreement"),
        "judge abstains": _by_round(run, "abstention"),
        "first shown wins": _by_round(run, "first_position_rate"),
        "no cycles": _by_round(run, "transitivity"),
    }
    implicit = {"policy prefers the chosen": _steps(run, "implicit_accuracy", 100)}
    errors = {f"Δe {side}": _steps(run, f"{side.split()[0]}_error_delta") for side in ("chosen (w)", "rejected (l)")}
    along: dict[str, Any] = {"xlabel": "training step, rounds one after another", "borders": _starts(run)[1:]}
    chance: dict[str, Any] = {"level": 50, "least": 100}
    made = [
        chart("Win rate over the base, with 95 % intervals", _rates(run), "% of cases", "generator", **chance),
        chart("How sure the judge was", opinions, "%", least=100),
        chart("Pair yield", {"pairs kept per 100 comparisons": _yields(run)}, "pairs", least=0),
        chart("Implicit accuracy", implicit, "%", **chance, **along),
        chart("Change of denoising error against the reference", errors, "Δe", level=0, **along),
        chart("Judge accuracy on held-out pairs", _held_out(run), "%", "round: data", lines=False, **chance),
    ]
    return [drawn for drawn in made if drawn]

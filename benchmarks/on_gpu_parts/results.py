"""What was measured, beside what counted operations and bytes predict: rows, their table, and the files they go to."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Ceilings:
    """What the device can do: operations a second of a large matrix product in the models' precision and in float32,
    bytes a second of a large copy (read plus written), seconds to launch a small kernel.
    """

    operations: float
    float32_operations: float
    bytes: float
    launch: float


@dataclass(frozen=True)
class Work:
    """What must be done at least, and what the eager program does.

    Attributes:
        operations: Floating point operations of products, convolutions and attention.
        bytes: The fewest bytes that must pass through memory: weights, caches, what goes in and comes out.
        moved: Bytes if every operator reads its inputs and writes its outputs (0: not counted).
        launches: Operators that compute (0: not counted).
        operators: Seconds if every operator ran at its own ceiling (0: not counted).
    """

    operations: float = 0.0
    bytes: float = 0.0
    moved: float = 0.0
    launches: float = 0.0
    operators: float = 0.0

    def times(self, count: float) -> "Work":
        """``count`` times as much."""
        return Work(*(count * value for value in asdict(self).values()))

    def and_also(self, other: "Work") -> "Work":
        """Both, one after the other."""
        return Work(*(mine + its for mine, its in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def floor(self, ceilings: Ceilings) -> tuple[float, str]:
        """Seconds below which no program gets, and what binds: 'products' or 'bandwidth'."""
        products, bandwidth = self.operations / ceilings.operations, self.bytes / ceilings.bytes
        return max((products, "products"), (bandwidth, "bandwidth"))

    def eager(self, ceilings: Ceilings) -> tuple[float, str]:
        """Seconds of a program of separate operators, each at its ceiling, and what binds: 'operators' or
        'launches'.
        """
        return max((self.operators, "operators"), (self.launches * ceilings.launch, "launches"))


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        part: The part it belongs to.
        what: What was timed.
        seconds: Of one ``unit``.
        unit: 'video', 'pair', 'step', …
        predicted: Seconds by counted operations and bytes (None: not predicted).
        bound: What the prediction is bound by.
        memory: Peak in bytes (None: not measured).
        more: Whatever else is worth keeping.
    """

    part: str
    what: str
    seconds: float
    unit: str
    predicted: float | None = None
    bound: str = ""
    memory: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """How many times the prediction was needed."""
        return self.seconds / self.predicted if self.predicted and self.seconds > 0 else None

    def cells(self) -> list[str]:
        """The row of a table."""
        predicted = f"{self.predicted:.3g} s ({self.bound})" if self.predicted else "–"
        rate = f"{1 / self.seconds:.3g}" if self.seconds > 0 else "–"
        memory = "–" if self.memory is None else f"{self.memory / 2**30:.1f}"
        gap, share = (f"{self.gap:.1f}", f"{1 / self.gap:.0%}") if self.gap else ("–", "–")
        return [f"{self.part}: {self.what}", predicted, f"{self.seconds:.3g} s a {self.unit}", rate, gap, share, memory]


COLUMNS = ("work", "predicted", "measured", "a second", "gap", "share of the ceiling", "peak, GiB")


def table(title: str, rows: Sequence[Row]) -> Table:
    """The rows as the terminal shows them."""
    made = Table(title=title)
    for column in COLUMNS:
        made.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for row in rows:
        made.add_row(*row.cells())
    return made


def markdown(title: str, rows: Sequence[Row]) -> str:
    """The rows as docs/performance.md shows them: one table for a card, date and command."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(row.cells() for row in rows)]
    return f"{title}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


@dataclass
class Results:
    """All that a run finds; ``about`` says where and how it ran."""

    about: dict[str, Any]
    ceilings: Ceilings | None = None
    rows: list[Row] = field(default_factory=list)
    kernels: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Card, date and command."""
        return ", ".join(str(self.about[name]) for name in ("card", "date", "command"))

    def write(self, folder: Path) -> None:
        """``on_gpu.json`` and ``on_gpu.md`` in ``folder``: after every row, so that a run that is cut off still tells
        most.
        """
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{**asdict(row), "gap": row.gap} for row in self.rows]
        found = {**asdict(self), "rows": rows}
        (folder / "on_gpu.json").write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
        (folder / "on_gpu.md").write_text(markdown(self.title, self.rows), encoding="utf-8")

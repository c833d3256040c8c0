"""What came of a rehearsal, for a person."""

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from videoduet.errors import InputError
from videoduet.progress import console

if TYPE_CHECKING:
    from pipelines.loop.rehearsal.steps import Rehearsal


def tell(found: "Rehearsal", name: str) -> None:
    """Print the rehearsal of what is called ``name``. Raises InputError where something would fail later."""
    table = Table("what", "seconds", "peak (GB)", "found", title=f"Rehearsal of {escape(name)}")
    for step in found.steps:
        table.add_row(step.name, f"{step.seconds:.1f}", f"{step.peak / 1e9:.2f}", escape(step.told))
    console.print(table)
    for line in [*found.whole_run, *(f"Note: {note}" for note in found.notes)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for number, problem in enumerate(found.problems, 1):
        console.print(f"{number}. {problem}", markup=False, highlight=False, soft_wrap=True)
    if found.problems:
        raise InputError(
            f"{len(found.problems)} things would fail later: mend what is listed above, and rehearse again."
        )
    console.print("Nothing that was rehearsed would fail.", markup=False)

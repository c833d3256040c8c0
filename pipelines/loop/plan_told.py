"""A plan, for a person."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from videoduet.progress import console


def tell_plan(rows: Mapping[str, str], what: str) -> None:
    """Print the rows of the plan of ``what``, and below them its ``note``."""
    table = Table("what", title=f"Plan: {escape(what)}")
    table.add_column("how much", justify="right")
    for name, value in rows.items():
        if name != "note":
            table.add_row(name, value)
    console.print(table)
    if "note" in rows:
        console.print(rows["note"], markup=False, highlight=False, soft_wrap=True)

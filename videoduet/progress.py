"""Live progress on the terminal: what is happening, how far it is, how fast, how long is left."""

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Item = TypeVar("Item")
console = Console(stderr=True)
FIRST_PROCESS = os.environ.get("RANK", "0") == "0"
"""Of several processes the first shows progress for all."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "–", style="cyan")


def track(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    done: int = 0,
    advance: Callable[[Item], int] = lambda item: 1,
) -> Iterator[Item]:
    """Yield ``items`` under a progress bar.

    ``total`` where it cannot be counted; ``done`` were made before; ``advance`` says how far an item brings it.
    """
    if total is None and isinstance(items, Sized):
        total = len(items) + done
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=2, disable=not FIRST_PROCESS) as progress:
        task = progress.add_task(description, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task, advance(item))


@contextmanager
def track_steps(description: str) -> Iterator[Callable[[dict], None]]:
    """Yield a function that takes a training step's row (``step``, ``steps``, maybe ``loss``) and shows how far it
    is.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=2, disable=not FIRST_PROCESS) as progress:
        task = progress.add_task(description, total=None)

        def on_step(row: dict) -> None:
            loss = f"  loss {row['loss']:.4f}" if row.get("loss") is not None else ""
            progress.update(task, completed=row["step"], total=row.get("steps"), description=description + loss)

        yield on_step

"""Live progress on the terminal: what is happening, how far it is, how fast, how long is left."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from videoduet.processes import FIRST_PROCESS

Item = TypeVar("Item")
console = Console(stderr=True)
SECONDS_BETWEEN_LINES = 30.0
"""How often progress is told where it cannot be drawn."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "–", style="cyan")


class _Bar(Progress):
    """A progress bar; where there is no terminal to draw it on, a line now and then."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        super().__init__(*columns, console=console, refresh_per_second=2, disable=not FIRST_PROCESS)
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def tell(self) -> None:
        """Print the line if it is due."""
        if console.is_terminal or self.disable or time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        for task in self.tasks:
            rate, left = f"{task.speed:.1f}/s" if task.speed else "–", task.time_remaining
            left = f", {timedelta(seconds=int(left))} left" if left is not None else ""
            total = "?" if task.total is None else int(task.total)
            console.print(f"{task.description}: {int(task.completed)}/{total}, {rate}{left}", markup=False)


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
    with _Bar() as progress:
        task = progress.add_task(description, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task, advance(item))
            progress.tell()


@contextmanager
def track_steps(description: str) -> Generator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that takes a training step's row (``step``, ``steps``, maybe ``loss``) and shows how far it
    is.
    """
    with _Bar() as progress:
        task = progress.add_task(description, total=None)

        def on_step(row: Mapping[str, Any]) -> None:
            loss = f"  loss {row['loss']:.4f}" if row.get("loss") is not None else ""
            progress.update(task, completed=row["step"], total=row.get("steps"), description=description + loss)
            progress.tell()

        yield on_step

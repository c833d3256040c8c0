"""Several machines over one shared directory: each takes its part of a list of items, and waits for files.

They know nothing of each other: no port, no collective, no launcher over all of them. Whatever becomes of one, the
others do their parts, and the same command on that one goes on with its own.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console

SHORTEST, LONGEST = 0.05, 10.0
"""Seconds between two looks at the shared directory: few at first, as what is waited for may be almost there."""


@dataclass(frozen=True)
class Machine:
    """This machine among ``count``: its ``number``, from 0."""

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Machine":
        """What ``1/4`` says: the second of four. Raises InputError where it is no such place."""
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None or not int(found[1]) < int(found[2]):
            raise InputError(
                f"machine is {text}; give number/count, counted from 0: 0/4 to 3/4 on the four of four.", exit_code=2
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        """As it is parsed."""
        return f"{self.number}/{self.count}"

    @property
    def first(self) -> bool:
        """Whether it does what only one may do."""
        return self.number == 0

    @property
    def finishes(self) -> bool:
        """Whether this process does what only one of all machines' processes may do."""
        return self.first and processes().is_main_process

    def part(self) -> tuple[int, int]:
        """Start and step of this process's part of a list: ``items[start::step]``, however many processes the other
        machines have.
        """
        # accelerate's types are known in part.
        state = cast("Any", processes())
        return self.number + self.count * state.process_index, self.count * state.num_processes

    def wait_for(self, files: Sequence[Path], what: str) -> None:
        """Return when all ``files`` are there; what is waited for is told once. At once where there is one machine."""
        if self.count == 1:
            return
        pause, told = SHORTEST, False
        while missing := [file for file in files if not file.exists()]:
            if not told and pause > 1:
                console.print(
                    f"{what}: waiting for {len(missing)} files of other machines, such as {missing[0].name}; where one "
                    "has stopped, give it the same command again.",
                    markup=False,
                    soft_wrap=True,
                )
                told = True
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)


ALONE = Machine()

"""The phases of a run: one table, from which everything else that knows phases is made.

A round goes through its phases in the order of the table; a phase without a first round is done once, after the last
round. What a phase is handed is in :mod:`pipelines.loop.handlers`, what it does in the module of its name.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Phase:
    """One row.

    Attributes:
        name: What it is called: its folder, and what the user types.
        function: Import path of what does it, given the run and the round (0 for a phase of the whole run). It is
            looked up when its turn comes, so the table needs no models' libraries.
        needs: Phases that must be done before: those above it in the table of the same round, those below it (and
            itself) of the round before; for a phase of the whole run, of the last round.
        first_round: The first round that has it; None for a phase of the whole run.
        sections: Sections or dotted fields of the config that no earlier phase depends on; the most exact counts.
        beside: A later phase on whose sections it depends, too, though nothing of it: a sibling that starts there makes
            this one anew.
        shared: Whether several machines share it out; the first one does the others.
    """

    name: str
    function: str
    needs: tuple[str, ...]
    first_round: int | None
    sections: tuple[str, ...]
    shared: bool = False
    beside: str | None = None


@dataclass(frozen=True)
class Turn:
    """A phase in a round (0 for a phase of the whole run)."""

    phase: Phase
    round_number: int

    @property
    def path(self) -> str:
        """Where it lies, relative to the run directory: ``round_00/sample``, ``score``."""
        return phase_path(self.phase.name, None if self.phase.first_round is None else self.round_number)

    def do(self, run: Any) -> None:
        """Do the phase in a :class:`pipelines.loop.run.Run`."""
        module, _, name = self.phase.function.rpartition(".")
        function: Callable[[Any, int], None] = getattr(importlib.import_module(module), name)
        function(run, self.round_number)


PHASES = (
    Phase(
        "sample",
        "pipelines.loop.handlers.sample",
        needs=("align",),
        first_round=0,
        sections=("seed", "prompts", "generator"),
        shared=True,
    ),
    Phase(
        "refresh",
        "pipelines.loop.handlers.refresh",
        needs=("sample", "rank", "audit"),
        first_round=1,
        sections=("refresh",),
        shared=True,
    ),
    Phase(
        "audit",
        "pipelines.loop.handlers.audit",
        needs=("sample", "refresh", "audit"),
        first_round=0,
        sections=("audit",),
        beside="rank",
    ),
    Phase(
        "rank",
        "pipelines.loop.handlers.rank",
        needs=("sample", "refresh"),
        first_round=0,
        sections=("judge", "pairs"),
        shared=True,
    ),
    Phase("align", "pipelines.loop.handlers.align", needs=("sample", "rank"), first_round=0, sections=("align",)),
    Phase(
        "measure",
        "pipelines.loop.handlers.measure",
        needs=("align", "measure"),
        first_round=0,
        sections=("score.videos_per_prompt", "prompts.held_out", "prompts.held_out_limit", "judge.second_path"),
        shared=True,
    ),
    Phase("score", "pipelines.loop.handlers.score", needs=("align",), first_round=None, sections=("score",)),
)


def phase_path(name: str, round_number: int | None = None) -> str:
    """The folder of a phase, relative to the run directory; without a round it is the whole run's."""
    return name if round_number is None else f"round_{round_number:02d}/{name}"


def phase_of(name: str) -> Phase:
    """The row called ``name``. Raises KeyError where there is none."""
    return {phase.name: phase for phase in PHASES}[name]


def phase_names() -> tuple[str, ...]:
    """The names of all phases, in order."""
    return tuple(phase.name for phase in PHASES)


def round_phases(round_number: int) -> tuple[Phase, ...]:
    """The phases of one round, in order."""
    return tuple(phase for phase in PHASES if phase.first_round is not None and phase.first_round <= round_number)


def turns(rounds: int) -> list[Turn]:
    """Every phase of a run of so many rounds, in order."""
    of_rounds = [Turn(phase, number) for number in range(rounds) for phase in round_phases(number)]
    return [*of_rounds, *(Turn(phase, 0) for phase in PHASES if phase.first_round is None)]


def needed(turn: Turn, rounds: int) -> list[Path]:
    """The folders, relative to the run directory, that must be done before ``turn``."""
    order = phase_names()
    paths: list[Path] = []
    for name in turn.phase.needs:
        if turn.phase.first_round is None:
            number = rounds - 1
        else:
            earlier = order.index(name) < order.index(turn.phase.name)
            number = turn.round_number if earlier else turn.round_number - 1
        first = phase_of(name).first_round
        if first is not None and number >= first:
            paths.append(Path(phase_path(name, number)))
    return paths


def independent(turn: Turn, rounds: int) -> list[str]:
    """The folders of a run of so many rounds that do not come of ``turn``, nor of a later turn of its phase: those
    before it, and later ones that need none of them.
    """
    order = turns(rounds)
    place = order.index(turn)
    beside = [
        one for one in order[:place] if one.phase.beside == turn.phase.name and one.round_number >= turn.round_number
    ]
    found, without = [one.path for one in order[:place] if one not in beside], {Path(one.path) for one in beside}
    for later in order[place:]:
        if later.phase is turn.phase or later.phase.first_round is None or without & {*needed(later, rounds)}:
            without.add(Path(later.path))
        else:
            found.append(later.path)
    return found


def earliest_phase(field: str) -> str:
    """The first phase that a dotted field of the config touches: the phase of the longest section that it is in."""
    found = [
        (len(section), phase.name)
        for phase in PHASES
        for section in phase.sections
        if field == section or field.startswith(f"{section}.")
    ]
    return max(found)[1] if found else PHASES[0].name

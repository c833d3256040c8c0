"""The run directory: the folders of phases, and siblings that share the earlier ones."""

import os
import shutil
from pathlib import Path

from pipelines.loop.config import RunConfig
from pipelines.loop.phases import earliest_phase, independent, phase_path, turns
from pipelines.loop.reuse import share_scored
from videoduet.errors import InputError
from videoduet.store import atomic_path
from videoduet.workspace import Workspace


class RunDirectory(Workspace):
    """Paths and state of one run; a run resumes at the first phase that is not done."""

    def __init__(self, root: str | Path):
        super().__init__(root, "--run_dir")

    def phase(self, name: str, round_number: int | None = None) -> Path:
        """The absolute folder of a phase; without a round it is the whole run's."""
        return self.root / phase_path(name, round_number)

    def touched(self, config: RunConfig) -> dict[str, str]:
        """The identity fields in which ``config`` differs from the one kept, each with the first phase it touches."""
        return {name: earliest_phase(name) for name in self.changed(config)}

    def adopt_config(self, config: RunConfig, *, again: bool = True) -> None:
        """Keep ``config`` as the run's, ``again`` where there is one. Raises InputError where it contradicts the one
        kept: the message names the field, and the first phase that it touches.
        """
        for name, (kept, asked) in self.changed(config).items():
            phase = earliest_phase(name)
            raise InputError(
                f"{self.root} was made with {name} = {kept!r}, not {asked!r}, which changes results from phase "
                f"'{phase}' on; take another --run_dir, or add --from {phase} to start a sibling run that reuses the "
                "phases before it."
            )
        if (kept := self.kept()) is not None and not again:
            return
        # A run from before there were audits goes on without, and is known by the section that it lacks.
        older = [name for name in ("audit",) if kept is not None and name not in kept]
        self.adopt(config, "made", again=True, without=older)

    def sibling(self, first_phase: str, config: RunConfig) -> "RunDirectory":
        """A run directory beside this one that shares the phases that do not come of ``first_phase`` (hard links, no
        copies): those before it, and of later ones those that need nothing of it.

        A sibling of the same ``config`` that exists already is gone on with; otherwise a new one appears, whole.
        ``first_phase`` is a path as ``round_00/sample``, or a bare name, which means its first occurrence. Raises
        InputError for an unknown phase, or one so late that a phase before it would not fit the config.
        """
        order = turns(config.rounds)
        phases = [turn.path for turn in order]
        matches = [index for index, path in enumerate(phases) if first_phase in (path, path.split("/")[-1])]
        if not matches:
            raise InputError(f"There is no phase {first_phase!r}; choose one of {', '.join(phases)}.", exit_code=2)
        shared = independent(order[matches[0]], config.rounds)
        tag = phases[matches[0]].replace("/", "_")
        self._check_shared(shared, config)
        number = 1
        while (root := self.root.with_name(f"{self.root.name}_from_{tag}_{number}")).exists():
            if (sibling := RunDirectory(root)).kept() is not None and not sibling.changed(config):
                return sibling
            number += 1
        with atomic_path(root) as temporary:
            self._share(RunDirectory(temporary), shared, config)
        return RunDirectory(root)

    def _check_shared(self, shared: list[str], config: RunConfig) -> None:
        """Raises InputError where a phase that would be shared depends on a field that differs."""
        for name, phase in self.touched(config).items():
            if any(path.split("/")[-1] == phase for path in shared):
                raise InputError(
                    f"{self.root} was made with another {name}, which changes results from phase '{phase}' on; "
                    f"use --from {phase}, or give {name} as it was.",
                    exit_code=2,
                )

    def _share(self, sibling: "RunDirectory", shared: list[str], config: RunConfig) -> None:
        for path in shared:
            if self.is_done(self.root / path):
                shutil.copytree(self.root / path, sibling.root / path, copy_function=os.link)
        self._share_scored(sibling, shared, config)
        # What phases read beside each other; prompts that a first phase reads anew may have changed.
        for name in ("quarantine.json", *(["prompts.parquet"] if shared else [])):
            if (self.root / name).exists():
                shutil.copy(self.root / name, sibling.root / name)
        sibling.adopt(config, "made", again=True)

    def _share_scored(self, sibling: "RunDirectory", shared: list[str], config: RunConfig) -> None:
        """What was drawn to be measured and scored, which lies with the score, by generators that are shared."""
        if not shared:
            return
        done = [path.split("/")[-1] for path in shared if self.is_done(self.root / path)]
        share_scored(
            self.phase("score"), sibling.phase("score"), config, self.changed(config), measured=done.count("measure"),
            aligned=done.count("align"),
        )  # fmt: skip

"""Train a judge on public data by GRPO: ``python -m pipelines.train_reward_model --config RECIPE``.

The recipes in configs/reward_model are VQ-Insight's stages and VQAThinker; docs/training_a_judge.md goes through them.
The same command resumes. ``--rehearse`` does it all once at its smallest first, and tells what would fail.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from reward_model.training.config import JudgeTrainingConfig
from videoduet.commands import guarded, parse_rehearsed
from videoduet.processes import FIRST_PROCESS
from videoduet.progress import console


def train(config: JudgeTrainingConfig) -> Path | None:
    """Train, or go on; returns the adapter's directory, or the whole model's where it is merged (None: only a plan)."""
    from reward_model.training.stage import cost, gather, train_stage
    from videoduet.workspace import Workspace

    # Before anything is read that takes time.
    Workspace(config.output).check(config, "trained")
    ingredients = gather(config)
    if config.plan:
        for name, value in cost(config, ingredients).items():
            console.print(f"{name.replace('_', ' ')}: {value:,}", markup=False, highlight=False)
        return None
    trained = train_stage(config, ingredients)
    if FIRST_PROCESS:
        for note in trained.notes:
            console.print(f"[bold yellow]warning:[/] {escape(note)}", highlight=False, soft_wrap=True)
        console.print(
            f"{trained.steps} steps; mean {trained.measure} {trained.first:.3f} at first, {trained.last:.3f} at "
            f"last. Measure it: python -m pipelines.evaluate_judge --judge {trained.path} --benchmark NAME "
            "--data FOLDER --output DIR",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    return trained.path


def rehearse(config: JudgeTrainingConfig) -> None:
    """Rehearse the training and print what came of it. Raises InputError where something would fail later."""
    from pipelines.loop.rehearsal import train_reward_model
    from pipelines.loop.rehearsal.told import tell

    tell(train_reward_model.rehearse(config), config.output)


def parse(arguments: Sequence[str] | None = None) -> JudgeTrainingConfig:
    """The config that a command line says (None: the process's own)."""
    return _read(arguments)[0]


def _read(arguments: Sequence[str] | None) -> tuple[JudgeTrainingConfig, bool]:
    return parse_rehearsed(JudgeTrainingConfig, "pipelines.train_reward_model", __doc__, arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    config, rehearsed = _read(arguments)
    guarded(lambda: rehearse(config) if rehearsed else train(config), "the same command")


if __name__ == "__main__":
    main()

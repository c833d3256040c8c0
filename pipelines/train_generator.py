"""Diffusion-DPO on stored preferences: ``python -m pipelines.train_generator --generator G --data D --output DIR``.

``data`` is VideoDPO's folder (metadata.json, pair.json), a JSON list of {caption, chosen, rejected} as UnifiedReward's,
a Hugging Face data set with two video columns, or a finished round of this project's loop (RUN/round_00). Videos are
encoded once into a cache; training sees latents only. The same command resumes. ``--plan`` says what it would cost,
``--rehearse`` does it all once at its smallest first, and tells what would fail.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.training.config import PreferenceTrainingConfig
from videoduet.commands import guarded, parse_planned, quiet_libraries
from videoduet.processes import FIRST_PROCESS
from videoduet.progress import console

if TYPE_CHECKING:
    from alignment.training.offline import TrainedGenerator


def run(config: PreferenceTrainingConfig) -> None:
    """Train, or go on, and say what came of it."""
    from alignment.training.offline import train_on_preferences

    quiet_libraries()
    trained = train_on_preferences(config)
    if FIRST_PROCESS:
        console.print("\n".join(_told(config, trained)), markup=False, highlight=False, soft_wrap=True)


def plan(config: PreferenceTrainingConfig) -> None:
    """Print what the training would cost."""
    from pipelines.loop.plan_parts import planned_training
    from pipelines.loop.plan_told import tell_plan

    tell_plan(planned_training(config), f"training {config.generator}")


def rehearse(config: PreferenceTrainingConfig) -> None:
    """Rehearse the training and print what came of it. Raises InputError where something would fail later."""
    from pipelines.loop.rehearsal import train_generator
    from pipelines.loop.rehearsal.told import tell

    quiet_libraries()
    tell(train_generator.rehearse(config), config.output)


def _told(config: PreferenceTrainingConfig, trained: "TrainedGenerator") -> list[str]:
    summary = trained.summary
    lines = [f"{summary['pairs']} pairs, {summary['steps']} steps."]
    if trained.left_out:
        where = Path(config.output) / "left_out.json"
        lines.append(f"{len(trained.left_out)} pairs or videos were left out, see {where}.")
    if summary["last_step"]:
        lines.append(f"Last step: {_figures(summary['last_step'])}.")
    if summary["held_out"]:
        lines.append(f"{summary['held_out_pairs']} held-out pairs: {_figures(summary['held_out'])}.")
    lines += [f"Note: {note}" for note in [*trained.unread, *summary["notes"]]]
    adapted = f"--generator {config.generator} --adapter {trained.path}"
    if config.align.parameters == "all":
        adapted = f"--generator {trained.path}"
    return [*lines, f"Draw with it: python -m pipelines.sample {adapted} --prompts FILE --output DIR"]


def _figures(metrics: Mapping[str, Any]) -> str:
    if metrics["loss"] is None or metrics["implicit_accuracy"] is None:
        return "loss not finite"
    return f"loss {metrics['loss']:.4f}, implicit accuracy {metrics['implicit_accuracy']:.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line (None: the process's) and train."""
    config, planned, rehearsed = parse_planned(
        PreferenceTrainingConfig, "pipelines.train_generator", __doc__, arguments
    )
    guarded(lambda: (plan if planned else rehearse if rehearsed else run)(config), "the same command")


if __name__ == "__main__":
    main()

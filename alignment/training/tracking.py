"""Live curves, where the user watches them: TensorBoard, Weights & Biases or trackio, by accelerate's trackers."""

from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from videoduet.errors import InputError

PROJECT = "videoduet"


class Tracker:
    """Sends a training's figures to the service called ``name``; for 'none', and on all processes but one, nowhere.

    ``events`` is where TensorBoard's files go; its name is what the training is called elsewhere. Raises InputError
    where the service's package is not installed.
    """

    def __init__(self, name: str, events: Path, *, here: bool):
        self.tracker: GeneralTracker | None = None
        if name == "none" or not here:
            return
        where: dict[str, Any] = {"run_name": PROJECT, "name": events.name}
        if name == "tensorboard":
            where = {"run_name": events.name, "logging_dir": events.parent}
        try:
            self.tracker = LOGGER_TYPE_TO_CLASS[name](**where)
            self.tracker.start()
        except ImportError as error:
            raise InputError(f"align.tracker is {name!r}; pip install {name}, or give 'none'.") from error

    def log(self, values: dict[str, Any], step: int) -> None:
        """Send the numbers among ``values`` as those of optimizer step ``step``."""
        if self.tracker is not None:
            numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
            self.tracker.log(numbers, step=step)

    def finish(self) -> None:
        """Send what is still waiting, and close."""
        if self.tracker is not None:
            self.tracker.finish()

"""Live curves and videos, where the user watches them: TensorBoard, Weights & Biases or trackio, by accelerate's
trackers. What is sent has the same name everywhere.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from videoduet.errors import InputError
from videoduet.video import animated, read_video

PROJECT = "videoduet"
LONGEST_SIDE = 256
"""Pixels to which larger videos are made smaller for TensorBoard, whose files hold them."""


class Tracker:
    """Sends a training's figures to the service called ``name``; for 'none', and on all processes but one, nowhere.

    ``events`` is where TensorBoard's files go; its name is what the training is called elsewhere. Raises InputError
    where the service's package is not installed.
    """

    def __init__(self, name: str, events: Path, *, here: bool):
        self.tracker: Any = None
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

    def videos(self, shown: Mapping[str, tuple[str | Path, str]], step: int) -> None:
        """Send video files, each with the words under it, as those of ``step``."""
        if self.tracker is None:
            return
        if self.tracker.name == "tensorboard":
            for name, (path, _) in shown.items():
                _add_gif(self.tracker.tracker, name, path, step)
            return
        kind = importlib.import_module(self.tracker.name).Video
        self.tracker.log({name: kind(str(path), caption=words) for name, (path, words) in shown.items()}, step=step)

    def finish(self) -> None:
        """Send what is still waiting, and close."""
        if self.tracker is not None:
            self.tracker.finish()


def _add_gif(writer: Any, name: str, path: str | Path, step: int) -> None:
    """Give TensorBoard a moving picture. Its own ``add_video`` does the same, by a package that nobody needs else."""
    # Made by protobuf, whose names no type checker sees.
    summaries: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
    Summary = summaries.Summary
    clip = read_video(path)
    picture = animated(clip.frames, round(1000 * clip.spacing), "gif", size=LONGEST_SIDE)
    height, width = clip.frames.shape[1:3]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture)
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

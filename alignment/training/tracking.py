"""Live curves and videos, where the user watches them: TensorBoard, Weights & Biases or trackio, by accelerate's
trackers. What is sent has the same name everywhere.
"""

import importlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from videoduet.errors import InputError
from videoduet.progress import console
from videoduet.video import animated, read_video

PROJECT = "videoduet"
LONGEST_SIDE = 256
"""Pixels to which larger videos are made smaller for TensorBoard, whose files hold them."""


def check_tracker(name: str, option: str = "align.tracker") -> None:
    """Raises InputError where the service called ``name``, as ``option`` has it, has no package here."""
    if name != "none" and find_spec(name) is None:
        raise InputError(f"{option} is {name!r}; pip install {name}, or give 'none'.")


class Tracker:
    """Sends a training's figures to the service called ``name``; for 'none', and on all processes but one, nowhere.

    ``events`` is where TensorBoard's files go; its name is what the training is called elsewhere. Raises InputError
    where the service's package is not installed. Nothing else that goes wrong with a service ends a training: it is
    told once, and the training goes on unwatched.

    Attributes:
        failed: Whether something was not sent.
    """

    def __init__(self, name: str, events: Path, *, here: bool):
        self.name, self.failed = name, False
        self.tracker: Any = None
        if name == "none" or not here:
            return
        where: dict[str, Any] = {"run_name": PROJECT, "name": events.name}
        if name == "tensorboard":
            where = {"run_name": events.name, "logging_dir": events.parent}
        self.tracker = self._tried(lambda: _started(name, where), "was not reached")

    def log(self, values: dict[str, Any], step: int) -> None:
        """Send the numbers among ``values`` as those of optimizer step ``step``."""
        if self.tracker is not None:
            numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
            self._tried(lambda: self.tracker.log(numbers, step=step), f"did not take the figures of step {step}")

    def videos(self, shown: Mapping[str, tuple[str | Path, str]], step: int) -> None:
        """Send video files, each with the words under it, as those of ``step``."""
        if self.tracker is not None:
            self._tried(lambda: self._send(shown, step), f"did not take the videos of step {step}")

    def _send(self, shown: Mapping[str, tuple[str | Path, str]], step: int) -> None:
        if self.tracker.name == "tensorboard":
            for name, (path, _) in shown.items():
                _add_gif(self.tracker.tracker, name, path, step)
            return
        kind = importlib.import_module(self.tracker.name).Video
        self.tracker.log({name: kind(str(path), caption=words) for name, (path, words) in shown.items()}, step=step)

    def finish(self) -> None:
        """Send what is still waiting, and close."""
        if self.tracker is not None:
            self._tried(self.tracker.finish, "did not take what was still waiting")

    def _tried(self, work: Callable[[], Any], failure: str) -> Any:
        """What ``work`` gives; None, and a warning the first time, where it fails."""
        try:
            return work()
        except InputError:
            raise
        except Exception as error:
            if not self.failed:
                words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                console.print(
                    f"warning: {self.name} {failure} ({words}); work goes on, and its figures are in files too.",
                    markup=False, highlight=False, soft_wrap=True,
                )  # fmt: skip
            self.failed = True
            return None


def _started(name: str, where: Mapping[str, Any]) -> Any:
    try:
        tracker: Any = LOGGER_TYPE_TO_CLASS[name](**where)
        tracker.start()
    except ImportError as error:
        raise InputError(f"align.tracker is {name!r}; pip install {name}, or give 'none'.") from error
    return tracker


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

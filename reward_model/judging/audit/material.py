"""The videos of an audit: short clips, each in as many versions as probes ask for, written without loss.

The codec must not tell the versions apart: frames whose order is spoilt take more bits, and would look worse, if they
were written with loss.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from reward_model.inputs import GivenVideo, as_video
from reward_model.judging.audit.alterations import ALTERATIONS
from videoduet.errors import InputError
from videoduet.records import Prompt, Video
from videoduet.seeding import seed_for
from videoduet.video import read_video, sample_clip, video_id, write_video

MOST_FRAMES, LARGEST = 16, 256
"""Frames of a clip: so few that a judge that samples frames sees nearly all of what was changed. Pixels of its longer
side: some thirty versions of each clip are written without loss.
"""
Given: TypeAlias = GivenVideo | tuple[GivenVideo, str | Prompt]


@dataclass(frozen=True)
class BaseClip:
    """A video as it was given: frames uint8 (T, H, W, 3) at so many a second, and the prompt it was made for.

    ``cluster`` is what counts as one observation: the prompt, or the video where it has none.
    """

    id: str
    frames: np.ndarray
    fps: float
    prompt: Prompt

    @property
    def cluster(self) -> str:
        """What is independent of the others."""
        return self.prompt.id if self.prompt.text else self.id


class Material:
    """The clips of an audit, and their versions, written into ``folder`` when they are first asked for."""

    def __init__(self, videos: Iterable[Given], folder: Path, most: int, seed: int = 0):
        self.folder, self.seed = folder, seed
        self.clips = _chosen([_read(given) for given in videos], most)
        if len(self.clips) < 2:
            found = "one video only" if self.clips else "no video"
            raise InputError(f"There is {found}; an audit compares videos, so give a folder of 16 or more.")
        self._videos: dict[str, Video] = {}

    def version(self, clip: BaseClip, *names: str) -> Video:
        """``clip`` after the alterations ``names``, one after the other (none: as it is)."""
        name = "_".join([clip.id, *names])
        if name not in self._videos:
            path = self.folder / f"{self.seed}_{name}.mp4"
            if not path.exists():
                frames = clip.frames
                for step in names:
                    frames = ALTERATIONS[step](frames, np.random.default_rng(seed_for(self.seed, clip.id, step)))
                self.folder.mkdir(parents=True, exist_ok=True)
                write_video(path, frames, clip.fps, crf=0)
            self._videos[name] = Video(id=video_id(path), path=str(path.absolute()))
        return self._videos[name]


def _read(given: Given) -> BaseClip:
    video, prompt = given if isinstance(given, tuple) else (given, "")
    record, held = as_video(video)
    clip = held[record.path] if held else read_video(record.path)
    clip = sample_clip(clip, MOST_FRAMES)
    prompt = prompt if isinstance(prompt, Prompt) else Prompt.of(prompt)
    return BaseClip(record.id, _small(clip.frames), 1 / clip.spacing, prompt)


def _small(frames: np.ndarray) -> np.ndarray:
    height, width = frames.shape[1:3]
    if max(height, width) <= LARGEST:
        return frames
    # Even sizes, which every player reads.
    height, width = (max(2, round(side * LARGEST / max(height, width) / 2) * 2) for side in (height, width))
    size = (width, height)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def _chosen(clips: list[BaseClip], most: int) -> list[BaseClip]:
    """At most so many clips, no video twice, of as many prompts as there are."""
    by_cluster: dict[str, dict[str, BaseClip]] = {}
    for clip in clips:
        by_cluster.setdefault(clip.cluster, {})[clip.id] = clip
    waiting = [list(group.values()) for group in by_cluster.values()]
    depth = max(map(len, waiting), default=0)
    return [group[i] for i in range(depth) for group in waiting if i < len(group)][:most]

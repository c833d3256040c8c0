"""Videos of a run on its page: embedded up to the page's limits, and linked beyond."""

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.report.previews import data_uri
from videoduet.video import animated, read_video

MAX_PROMPTS = 24
# Browsers slow down, and mail servers refuse, beyond this; videos over the limit are linked.
MAX_BYTES = 64 * 2**20
SMALL = 128
"""Longest side, in pixels, of clips that are written as H.264 4:4:4, which some browsers cannot decode."""


@dataclass(frozen=True)
class ShownVideo:
    """A video on the page: embedded (``source``), or linked only (no source), or absent (``problem``)."""

    label: str
    described: str
    href: str = ""
    source: str = ""
    fallback: str = ""
    small: bool = False
    problem: str = ""


@dataclass
class Shelf:
    """Turns video paths into what the page shows, and keeps the page within its limits."""

    directory: Path
    prompts: set[str] = field(default_factory=set)
    used: int = 0

    def show(self, path: str, prompt_id: str, label: str, described: str, embed: bool = True) -> ShownVideo:
        """What the page shows of a video: embedded where that is wished for and its prompt is among the first
        MAX_PROMPTS, linked otherwise.

        ``path``, relative to the run directory, comes from a record.
        """
        relative = PurePosixPath(path)
        # A path comes from a file that anyone may have written: it must not reach outside the run directory.
        if relative.is_absolute() or ".." in relative.parts:
            return ShownVideo(label, described, problem="the path leads out of the run directory")
        file, href = self.directory / relative, urllib.parse.quote(path)
        if not file.is_file():
            return ShownVideo(label, described, problem=f"{path} is missing")
        fits = self.used + file.stat().st_size * 4 // 3 <= MAX_BYTES
        if not embed or not fits or (prompt_id not in self.prompts and len(self.prompts) >= MAX_PROMPTS):
            return ShownVideo(label, described, href)
        try:
            clip = read_video(file)
        # A page comes about whatever is wrong with one file.
        except Exception:
            return ShownVideo(label, described, href, problem=f"{path} cannot be decoded")
        self.prompts.add(prompt_id)
        small = max(clip.frames.shape[1:3]) <= SMALL
        source = data_uri("video/mp4", file.read_bytes())
        moving = animated(clip.frames, max(1, round(1000 / clip.fps)), lossless=True) if small else b""
        fallback = data_uri("image/webp", moving) if small else ""
        self.used += len(source) + len(fallback)
        return ShownVideo(label, described, href, source, fallback, small)

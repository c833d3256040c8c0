"""Interlaced films: each frame holds two fields, which were filmed one after the other and tear what moves."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import av.error
from av.filter import Graph


def deinterlaced(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """As many frames, at the same times: from the first one on that is interlaced, each shows the moment of its earlier
    field alone (FFmpeg's bwdif); those that are not stay as they are.
    """
    filtering: _Filtering | None = None
    for frame in frames:
        if filtering is not None and filtering.shape != _shape(frame):
            yield from filtering.rest()
            filtering = None
        if filtering is None and frame.interlaced_frame:
            filtering = _Filtering(frame)
        if filtering is None:
            yield frame
        else:
            yield from filtering.shown(frame)
    if filtering is not None:
        yield from filtering.rest()


def _shape(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


class _Filtering:
    """The filter for frames of one size and format; it gives a frame when it was shown the next one."""

    def __init__(self, frame: av.VideoFrame):
        self.shape = _shape(frame)
        self.waiting: deque[av.VideoFrame] = deque()
        self.shown_so_far = 0
        self.graph = Graph()
        self.graph.threads = 1
        source = self.graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        )
        field = self.graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self.graph.link_nodes(source, field, self.graph.add("buffersink")).configure()

    def shown(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """What comes out when ``frame`` goes in."""
        self.shown_so_far += 1
        self.waiting.append(frame)
        self.graph.push(frame)
        yield from self._ready()

    def rest(self) -> Iterator[av.VideoFrame]:
        """What is still in it, when no frame follows."""
        if self.shown_so_far == 1:
            # A frame that is all alone it would leave torn.
            self.graph.push(self.waiting[0])
        self.graph.push(None)
        yield from self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        while self.waiting:
            try:
                frame = self.graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # The filter counts in halves; and where a file gives no time, none is to be made up here.
            before = self.waiting.popleft()
            frame.pts, frame.time_base = before.pts, before.time_base
            yield frame

"""The stream of a file that a player plays, and its frames and times."""
# PyAV leaves the parameters of packets and frames open.
# pyright: reportUnknownMemberType=false

from collections.abc import Container, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from videoduet.errors import InputError
from videoduet.video.fields import deinterlaced

COVERS = Disposition.attached_pic | Disposition.timed_thumbnails
BESIDES = Disposition.dependent | Disposition.still_image | Disposition.visual_impaired | Disposition.hearing_impaired
DOLBY_VISION = ("dvh1", "dvhe", "dav1")
"""What MP4 calls films that only Dolby Vision shows as they are meant."""


@contextmanager
def opened(path: Path) -> Generator[tuple[InputContainer, VideoStream]]:
    """A file and the stream that a player plays: no cover, one that moves before a still, then the default one, then
    the first.

    Raises InputError where it has no picture, or a cover alone.
    """
    with av.open(str(path)) as container:
        shown = [stream for stream in container.streams.video if not stream.disposition & COVERS]
        # What nothing here decodes has no codec.
        films = [stream for stream in shown if cast(object, stream.codec_context) is not None]
        if not films:
            found = "it has a cover, but no film" if container.streams.video else "it has no picture"
            found = "nothing here decodes its picture" if shown else found
            raise InputError(f"Video {path} cannot be read ({found}); remove it or encode it again.")
        index = films[0].index if len(films) == 1 else _played(path, [stream.index for stream in films])
        stream = cast(VideoStream, container.streams[index])
        # Frames must not depend on the number of threads, where a file is damaged.
        stream.thread_count = 1
        yield container, stream


def _played(path: Path, indices: Sequence[int]) -> int:
    """Which of several streams is played. How many packets each has, only reading them tells."""
    counts = dict.fromkeys(indices, 0)
    with av.open(str(path)) as container:
        streams = {index: container.streams[index] for index in indices}
        for packet in container.demux(*streams.values()):
            counts[packet.stream.index] += bool(packet.size)
            if min(counts.values()) > 1:
                break
        return max(
            indices,
            key=lambda index: (
                min(counts[index], 2),
                bool(streams[index].disposition & Disposition.default),
                not streams[index].disposition & BESIDES,
                -index,
            ),
        )


def announced_times(path: Path) -> tuple[list[float | None], float | None]:
    """When each frame is shown, in seconds, by the packets alone, and the stream's average rate."""
    with opened(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = [None if packet.pts is None else float(packet.pts * packet.time_base) for packet in packets]
        known = [time for time in times if time is not None]
        return ([*sorted(known)] if len(known) == len(times) else times), rate_of(stream)


def rate_of(stream: VideoStream) -> float | None:
    """Average frames per second; None where the file does not say."""
    return float(stream.average_rate) if stream.average_rate else None


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """A stream's frames: whole pictures where it is interlaced, with their transparency where they have one.

    Raises ValueError where their colours are of a kind that nothing here shows.
    """
    for number, frame in enumerate(deinterlaced(_decoded(container, stream))):
        if not number and _is_dolby_vision(stream, frame):
            raise ValueError("its colours are Dolby Vision's own, of profile 5, for which it needs a player of that")
        yield frame


def _is_dolby_vision(stream: VideoStream, frame: av.VideoFrame) -> bool:
    """Whether a film is to be seen through Dolby Vision alone: no curve is given that others could show it by."""
    if frame.color_trc != ColorTrc.UNSPECIFIED:
        return False
    try:
        kinds = cast(Container[Type], frame.side_data)
        return stream.codec_context.codec_tag.lower() in DOLBY_VISION or Type.DOVI_METADATA in kinds
    # PyAV refuses all side data where it does not know one kind of it.
    except ValueError:
        return False


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """A stream's frames as they are stored. Of VP8 and VP9 only libvpx decodes transparency."""
    library = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if library is None or stream.metadata.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    decoder = cast(VideoCodecContext, av.CodecContext.create(library, "r"))
    for packet in container.demux(stream):
        yield from decoder.decode(packet)

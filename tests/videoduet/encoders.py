"""Video files as other programs make them."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def shades(count: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Grey frames, each lighter than the one before, with a dark upper left corner."""
    frames = np.stack([np.full((*size, 3), 60 + 150 * index // max(1, count - 1), np.uint8) for index in range(count)])
    frames[:, : size[0] // 4, : size[1] // 4] = 10
    return frames


def encode(path: Path, frames: np.ndarray, codec: str, pix_fmt: str, times=None, fps: float = 8, **options) -> Path:
    """Write frames with PyAV; ``times`` in milliseconds make the rate vary."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgba" if array.shape[-1] == 4 else "rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, ...]) -> None:
    """Write a display matrix into an mp4's track header, as a phone does that was held upright."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version, flags, dates, ids, duration, layer, volume
    one, tail = 1 << 16, 1 << 30
    a, b, c, d = (value * one for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, tail)
    path.write_bytes(bytes(data))


def without_some_times(path: Path) -> Path:
    """Take the time out of two packets of three of an MPEG transport stream."""
    data, packets = bytearray(path.read_bytes()), 0
    for start in range(0, len(data), 188):
        begins, number = data[start + 1] & 0x40, (data[start + 1] & 0x1F) << 8 | data[start + 2]
        adaptation = data[start + 4] + 1 if data[start + 3] & 0x20 else 0
        header = start + 4 + adaptation
        if begins and number == 0x100 and data[header : header + 3] == b"\0\0\1":
            packets += 1
            if packets % 3:
                data[header + 7] &= 0x3F
                length = data[header + 8]
                data[header + 9 : header + 9 + length] = b"\xff" * length
    path.write_bytes(bytes(data))
    return path


def mux(path: Path, streams: Sequence[tuple[str, str, np.ndarray, int | None]], **options: str) -> Path:
    """Write several picture streams into one file: codec, pixel format, frames and disposition of each."""
    with av.open(str(path), "w", options=options) as container:
        made = []
        for codec, pix_fmt, frames, disposition in streams:
            stream = container.add_stream(codec, rate=8)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
            if disposition is not None:
                stream.disposition = disposition
            made.append(stream)
        for stream, (_, _, frames, _) in zip(made, streams, strict=True):
            for array in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
            container.mux(stream.encode())
    return path


def encode_planes(path: Path, signal: tuple[float, float, float], transfer: int, frames: int = 3) -> Path:
    """A film of one colour, given as the signal of red, green and blue in [0, 1]: 10 bits, in BT.2020."""
    red, green, blue = signal
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    values = [876 * luma + 64, 896 * (blue - luma) / 1.8814 + 512, 896 * (red - luma) / 1.4746 + 512]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        for _ in range(frames):
            frame = av.VideoFrame(32, 32, "yuv420p10le")
            frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
            for plane, value in zip(frame.planes, values, strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(value), np.uint16).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path

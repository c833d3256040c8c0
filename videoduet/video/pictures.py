"""From a decoded frame to the pixels that a player shows: scaled to square pixels, mirrored and turned, laid on white
where it is transparent, and toned where it was made for HDR screens.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import SupportsBytes, cast

import av
import numpy as np
from av.sidedata.sidedata import Type
from PIL import Image

from videoduet.video.tones import HDR, toned

EXIF_ORIENTATION = 0x0112
OBLONG = 16
"""Pixels that are said to be longer than this, either way, are taken for square ones with a damaged header."""


@dataclass(frozen=True)
class Placement:
    """How a stored picture is put on the screen: rows and columns exchanged, then the last row first, then the last
    column first. That is all that a display matrix of quarter turns, and EXIF's orientation, can say.
    """

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The picture (H, W, C) as it is shown."""
        array = array.swapaxes(0, 1) if self.transposed else array
        return array[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width shown of those stored, and the other way round."""
        return (width, height) if self.transposed else (height, width)


ORIENTATIONS = {
    2: Placement(mirrored=True),
    3: Placement(upside_down=True, mirrored=True),
    4: Placement(upside_down=True),
    5: Placement(transposed=True),
    6: Placement(transposed=True, mirrored=True),
    7: Placement(transposed=True, upside_down=True, mirrored=True),
    8: Placement(transposed=True, upside_down=True),
}
"""EXIF's; 1, and what nobody defined, is as stored."""
QUARTERS = (Placement(), ORIENTATIONS[8], ORIENTATIONS[3], ORIENTATIONS[6])
"""By quarter turns against the clock."""


def image_placement(path: Path) -> Placement:
    """How a still is shown, by its EXIF orientation."""
    try:
        with Image.open(path) as image:
            return ORIENTATIONS.get(image.getexif().get(EXIF_ORIENTATION, 1), Placement())
    # A still that Pillow does not know has no EXIF that anyone reads; whether it is one at all, the decoder says.
    except Exception:
        return Placement()


def frame_placement(frame: av.VideoFrame) -> Placement:
    """How a film's frame is shown, by its display matrix; of a matrix between two quarter turns the nearer one."""
    try:
        data = cast(Mapping[Type, SupportsBytes], frame.side_data).get(Type.DISPLAYMATRIX)
    # PyAV refuses all side data where it does not know one kind of it.
    except ValueError:
        return QUARTERS[round(frame.rotation / 90) % 4]
    if data is None:
        return Placement()
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Placement(upside_down=d < 0, mirrored=a < 0)
    return Placement(transposed=True, upside_down=b < 0, mirrored=c < 0)


def square(height: int, width: int, aspect: Fraction | None) -> tuple[int, int]:
    """Height and width in square pixels of a picture whose pixels are ``aspect`` times as wide as high: one side grows,
    as HTML has it, so that nothing is lost.
    """
    if not aspect or not Fraction(1, OBLONG) <= aspect <= OBLONG:
        return height, width
    return (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """A picture (H, W, 4) uint8 without its transparency, (H, W, 3)."""
    opacity = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)


def is_transparent(frame: av.VideoFrame) -> bool:
    """Whether parts of a frame may be."""
    return frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)


def pixels(
    frame: av.VideoFrame, placement: Placement, aspect: Fraction | None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """A frame as it is shown, uint8 (H, W, 3), scaled to ``size`` (None: its own in square pixels)."""
    height, width = placement.size(*size) if size else square(frame.height, frame.width, aspect)
    if is_transparent(frame):
        array = on_white(frame.to_ndarray(width=width, height=height, format="rgba"))
    elif frame.color_trc in HDR:
        array = toned(frame.to_ndarray(width=width, height=height, format="rgb48le"), frame.color_trc)
    else:
        array = frame.to_ndarray(width=width, height=height, format="rgb24")
    return placement(array)

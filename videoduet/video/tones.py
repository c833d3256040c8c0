"""HDR pictures (PQ and HLG, ITU-R BT.2100) as they are shown on an ordinary screen."""

from functools import cache

import numpy as np

PQ, HLG = 16, 18
HDR = (PQ, HLG)
"""Transfer characteristics, as ITU-T H.273 numbers them."""
WHITE, PEAK = 203.0, 1000.0
"""cd/m²: of diffuse white (BT.2408), and of the brightest light that is told apart."""
M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
A, B, C = 0.17883277, 0.28466892, 0.55991073
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
    np.float32,
)


def pq_light(signal: np.ndarray) -> np.ndarray:
    """Light in cd/m² of a PQ signal in [0, 1]: BT.2100, table 4."""
    power = np.maximum(signal, 0) ** (1 / M2)
    return 10000 * (np.maximum(power - C1, 0) / (C2 - C3 * power)) ** (1 / M1)


def pq_signal(light: np.ndarray) -> np.ndarray:
    """The PQ signal in [0, 1] of light in cd/m²."""
    power = (np.maximum(light, 0) / 10000) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def hlg_scene(signal: np.ndarray) -> np.ndarray:
    """Light of the scene in [0, 1] of an HLG signal in [0, 1]: BT.2100, table 5."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - C) / A) + B) / 12)


def hlg_light(scene: np.ndarray) -> np.ndarray:
    """Light in cd/m² of a scene (..., 3) on a screen of 1000 cd/m²: BT.2100, table 5."""
    return PEAK * scene * (scene @ LUMINANCE)[..., None] ** 0.2


def compressed(signal: np.ndarray) -> np.ndarray:
    """A PQ signal of light up to ``PEAK`` brought below ``WHITE``: BT.2390, the EETF of section 5.4.1."""
    top = float(pq_signal(np.array(PEAK)))
    most = float(pq_signal(np.array(WHITE))) / top
    value, knee = np.minimum(signal / top, 1), 1.5 * most - 0.5
    t = (value - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return np.where(value < knee, value, spline) * top


@cache
def _lights(transfer: int) -> np.ndarray:
    """Of each 16-bit value: its light where that is PQ's, and the light of the scene where it is HLG's."""
    signal = np.arange(65536) / 65535
    return (pq_light(signal) if transfer == PQ else hlg_scene(signal)).astype(np.float32)


@cache
def _scales() -> tuple[np.ndarray, np.ndarray]:
    """Light in cd/m², and what one cd/m² of it becomes on a screen whose white is 1."""
    signal = np.linspace(0.001, 1, 4096)
    light = pq_light(signal)
    return light, pq_light(compressed(signal)) / light / WHITE


def toned(picture: np.ndarray, transfer: int) -> np.ndarray:
    """An HDR picture (H, W, 3) uint16, in BT.2020's primaries, as uint8 for a screen of BT.709 and BT.1886."""
    light = _lights(transfer)[picture]
    light = light if transfer == PQ else hlg_light(light)
    # The brightest component sets the scale of all three, so that no hue changes.
    scale = np.asarray(np.interp(light.max(axis=-1), *_scales()), np.float32)
    linear: np.ndarray = (light * scale[..., None]) @ BT2020_TO_BT709.T
    return (255 * linear.clip(0, 1) ** np.float32(1 / 2.4)).round().astype(np.uint8)

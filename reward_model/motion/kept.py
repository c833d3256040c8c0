"""Motion features of videos seen lately, which are computed once each."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from reward_model.motion.slowfast import SlowFast

Key = TypeVar("Key", bound=Hashable)


class KeptFeatures(Generic[Key]):
    """The features of the last ``keep`` videos by a key of the caller's, 9 kB each on the network's device.

    Each video is computed alone, so that no feature depends, in its last bits, on what it was asked together with: they
    may be kept for as long as the network lives, through training as well, since it never changes. The key must name
    all that is shown: the file, its state (:func:`videoduet.video.written`), and which frames at what size.
    """

    def __init__(self, slowfast: SlowFast, keep: int = 4096):
        self.slowfast, self.keep = slowfast, keep
        self._features: OrderedDict[Key, Tensor] = OrderedDict()

    def of(self, key: Key, frames: Callable[[], Tensor | np.ndarray]) -> Tensor:
        """The features (dim,) of a video; ``frames`` is asked for what it shows where they are not at hand."""
        if key not in self._features:
            self._features[key] = self.slowfast.features(frames())
        # Seen last, so given up last.
        self._features.move_to_end(key)
        while len(self._features) > self.keep:
            self._features.popitem(last=False)
        return self._features[key]

"""From comparisons to preference pairs."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from alignment.preferences import sequential

__all__ = ["sequential"]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submodules={"sequential"})

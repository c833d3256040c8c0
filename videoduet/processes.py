"""Which of several processes this is, and on which device it works: asked here, once, by everybody."""

import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState  # pyright: ignore[reportMissingTypeStubs]

FIRST_PROCESS = os.environ.get("RANK", "0") == "0"
"""Whether this process speaks for all, as far as the launcher says; known before any library is loaded."""


def processes() -> "PartialState":
    """This process among its fellows, who wait for each other as long as a phase may take."""
    import torch
    from accelerate import PartialState  # pyright: ignore[reportMissingTypeStubs]

    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))


def device() -> str:
    """The device that this process works on: 'cuda:0', 'cpu'."""
    return f"{processes().device}"  # pyright: ignore[reportUnknownMemberType]


def cores() -> int:
    """The processor's cores that are this process's share: what it may use, among its launcher's processes here."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

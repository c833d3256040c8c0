"""Walking folders: links to folders elsewhere, another disk say, are entered, and none is entered twice."""

import os
from pathlib import Path


def files_below(folder: str | Path) -> list[Path]:
    """The files anywhere below ``folder``, sorted.

    A folder that can be reached in several ways is gone through once: by its own place rather than by a link to it,
    which also cuts loops.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [Path(folder)], list[Path]()
    while folders or links:
        # Links wait until all that lies here by itself was seen.
        here = folders.pop() if folders else links.pop(0)
        try:
            state = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            # A folder that may not be entered, or went away meanwhile, holds nothing for us.
            continue
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in entries:
            if not entry.is_dir():
                found.append(here / entry.name)
            else:
                (links if entry.is_symlink() else folders).append(here / entry.name)
    return sorted(found)

"""What is said where something cannot be loaded: one sentence, whatever a library raised."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from videoduet.errors import InputError

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST = 600
"""Characters of a library's own words that are shown."""


def reason(error: BaseException) -> str:
    """The first line of what ``error`` says, without a terminal's colours; with its class where its words alone may say
    little.
    """
    lines = (line.strip() for line in _ESCAPES.sub("", str(error)).splitlines())
    said = next((line for line in lines if line), "").rstrip(".:")
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    if said and isinstance(error, OSError | ValueError | RuntimeError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@contextmanager
def loading(problem: str, mend: str) -> Generator[None]:
    """Within it whatever is raised becomes an InputError: ``problem``, the reason in brackets, ``mend``.

    What libraries raise at files that are not what they expect is no list that could be written down.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{problem} ({reason(error)}); {mend}") from error


def refuse_pointers(path: str | Path) -> None:
    """Raises InputError where ``path``, or a file in that directory or right below it, is what git keeps in place of a
    large file. A hub id is no path here.
    """
    path = Path(path)
    files = [path] if path.is_file() else [*path.glob("*"), *path.glob("*/*")] if path.is_dir() else []
    for file in sorted(files):
        if is_pointer(file):
            raise InputError(
                f"{file} is a git-lfs pointer, not the file that it stands for; run git lfs pull in its repository, or "
                "download it from the hub (hf download)."
            )


def is_pointer(file: Path) -> bool:
    """Whether ``file`` is what git keeps in place of a large one."""
    if not file.is_file() or file.stat().st_size > 1024:
        return False
    with file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER


def some(names: "list[str] | set[str]", shown: int = 3) -> str:
    """The first few of ``names`` in order, and how many there are more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more

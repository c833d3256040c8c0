"""What is said where something cannot be loaded: one sentence, whatever a library raised."""

import json
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videoduet.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_READ = re.compile(r"config|token|vocab|index|template")
"""Names of the JSON files that libraries read in a model's directory; others may lie there too."""
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST = 600
"""Characters of a library's own words that are shown."""
_HARMLESS = re.compile(r"(^|[._])ema([._]|$)|(^|\.)(position_ids|inv_freq|pos_embed(ding)?|num_batches_tracked)$")
"""Tensors of checkpoints that nothing need take: averages kept beside the weights, and tables that are computed anew.
Libraries know more of their own.
"""


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


def check_files(path: str | Path) -> None:
    """Raises InputError that names a model's file which is not what its name says: cut short, or what git keeps in
    place of a large file. Looks at ``path``, or into that directory and right below it; a hub id is no path here.
    """
    path = Path(path)
    files = [path] if path.is_file() else [*path.glob("*"), *path.glob("*/*")] if path.is_dir() else []
    for file in sorted(file for file in files if file.is_file()):
        if is_pointer(file):
            raise InputError(
                f"{file} is a git-lfs pointer, not the file that it stands for; run git lfs pull in its repository, or "
                "download it from the hub (hf download)."
            )
        wrong = None
        if file.suffix == ".safetensors":
            wrong = _wrong_tensors(file)
        elif file.suffix == ".json" and _READ.search(file.name):
            wrong = _wrong_json(file)
        if wrong is not None:
            raise InputError(f"{file} is cut short or something else ({wrong}); download or copy it anew.")


def _wrong_json(file: Path) -> str | None:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return reason(error)
    return None


def _wrong_tensors(file: Path) -> str | None:
    """What is wrong with the frame of a safetensors file: how long it should be stands at its beginning."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            return f"its {size} bytes hold no whole header of safetensors"
        try:
            header = json.loads(opened.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, RecursionError, AttributeError, TypeError, LookupError):
            return "its header is none of safetensors'"
    whole = 8 + length + max(ends, default=0)
    return None if size == whole else f"it has {size:,} bytes and should have {whole:,}"


def is_pointer(file: Path) -> bool:
    """Whether ``file`` is what git keeps in place of a large one."""
    if file.stat().st_size > 1024:
        return False
    with file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER


def lacking(info: Mapping[str, Any]) -> str | None:
    """What a checkpoint lacks, or has of another shape, by what transformers says of its loading; None: it is whole."""
    missing = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if not missing:
        return None
    instead = f", and has {some(set(info['unexpected_keys']))} instead" if info["unexpected_keys"] else ""
    return f"{some(missing)}{instead}"


def refuse_odd(model: "nn.Module", info: Mapping[str, Any], what: str) -> None:
    """Raises ValueError that names a tensor of the checkpoint that nothing in ``model`` takes, or a weight with a value
    that is no finite number; ``what`` the weights are called, ``info`` is what the library said of their loading.

    A checkpoint with more than its config says was another model: one of more layers, or with a head or an adapter.
    """
    if odd := sorted(name for name in info["unexpected_keys"] if not _HARMLESS.search(name)):
        raise ValueError(f"nothing takes {some(odd)} of {what}; its config.json may be another model's")
    refuse_not_finite(model.named_parameters(), what)


def refuse_not_finite(named: "Iterable[tuple[str, Tensor]]", what: str) -> None:
    """Raises ValueError that names a weight with NaN or infinity in it; ``what`` the weights are called.

    One sum over each, in its precision: a small part of the time that it takes to read them from a disk.
    """
    weights = [(name, value.detach()) for name, value in named if value.is_floating_point() and not value.is_meta]
    # A sum is finite only where all values are; where it is not, it may have grown too large for half precision.
    odd = [(name, value) for name, value in weights if not _finite(value.sum()) and not _finite(value)]
    if odd:
        found = some([name for name, _ in odd])
        raise ValueError(f"{found} of {what}: NaN or infinity in {str(odd[0][1].dtype).removeprefix('torch.')}")


def _finite(value: "Tensor") -> bool:
    import torch

    return bool(torch.isfinite(value).all())


def some(names: "list[str] | set[str]", shown: int = 3) -> str:
    """The first few of ``names`` in order, and how many there are more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more

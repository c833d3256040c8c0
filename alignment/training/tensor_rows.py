"""Single rows out of safetensors shards: latents and text conditioning stay on the disk until a draw asks for them."""

from collections import OrderedDict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from videoduet.errors import InputError

OPEN_SHARDS = 16


class TensorRows:
    """Single rows of tensors in safetensors shards, float32. Few shards are open; only the rows asked for are read."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, safe_open] = OrderedDict()

    def row(self, path: Path, name: str, index: int) -> Tensor:
        """Row ``index`` of the tensor ``name`` (N, ...) in the shard ``path``: (...), float32."""
        return self._shard(path).get_slice(name)[index : index + 1][0].float()

    def shape(self, path: Path, name: str) -> list[int]:
        """The shape of a whole tensor. Raises InputError where the shard or the tensor in it cannot be read."""
        try:
            return self._shard(path).get_slice(name).get_shape()
        except (OSError, SafetensorError) as error:
            raise InputError(f"Shard {path} cannot be read ({error}); sample these prompts again.") from error

    def _shard(self, path: Path) -> safe_open:
        if path not in self._open:
            self._open[path] = safe_open(path, "pt")
            # The one that was not asked for the longest.
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]

"""The one place that puts a forward into a module: every change is remembered and can be taken back."""

from collections.abc import Callable
from typing import Any


class Rewrites:
    """Changes of a model's forwards. :meth:`undo`, or the end of a ``with`` block, takes them back: the model then is
    what it was, to the last bit of its outputs.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def forward(self, module: Any, forward: Callable[..., Any]) -> None:
        """Let the PyTorch ``module`` compute by ``forward``, which takes what its own forward takes."""
        # None where it has its class's own, which comes back when this one goes.
        before: Any = module.__dict__.get("forward")
        module.forward = forward
        self.add(lambda: delattr(module, "forward") if before is None else setattr(module, "forward", before))

    def add(self, undo: Callable[[], None]) -> None:
        """Remember how another change is taken back."""
        self._undo.append(undo)

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return bool(self._undo)

    def undo(self) -> None:
        """Take all changes back, the last one first; a second time does nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> "Rewrites":
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

"""A step of a training, forward and backward, as a CUDA graph: recorded once for each shape of what it reads, then
replayed by one launch instead of ten thousand, which on a fast card take longer than the kernels themselves.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[..., Tensor]
"""From tensors by name, and constants, to one tensor; adds a gradient to the parameters."""

Capture = Callable[["Recording"], Callable[[], None]]
"""Runs a recording's work, and returns what does it again on the same memory."""

WARM_UP = 2
"""Runs before recording, in which kernels are chosen and workspaces come to be."""


class StepGraphs:
    """``step`` with its recordings: called as it is, with the same gradients in ``parameters`` and the same result.

    A call is a copy of its tensors into those that the graph reads, and the replay. Gradients lie in the graph's own
    memory, where activations lay before, and are ``parameters``' until the next call, which adds to them: so a step of
    several micro-batches has the sum, as without a graph. What cannot be recorded runs as it is from then on, after
    ``say`` was told why. ``capture`` is :class:`Captures` but for tests.
    """

    def __init__(
        self, step: Step, parameters: Sequence[nn.Parameter], say: Callable[[str], None], capture: Capture | None = None
    ):
        self.step, self.parameters, self.say = step, list(parameters), say
        self.capture = capture or Captures()
        self.recorded: dict[Any, tuple[Recording, Callable[[], None]]] = {}
        self.works = True

    def __call__(self, tensors: Mapping[str, Tensor], *constants: Any) -> Tensor:
        """What ``step`` returns for ``tensors`` and ``constants``, each of which is recorded by itself."""
        earlier = [parameter.grad for parameter in self.parameters]
        key = (constants, *((name, value.shape, value.dtype) for name, value in tensors.items()))
        if self.works and key not in self.recorded:
            self._record(key, tensors, constants)
        if not self.works:
            self._give(earlier)
            return self.step(tensors, *constants)
        recording, replay = self.recorded[key]
        # They may lie where this replay, or another recording's, will write.
        kept = {place: value.clone() for place, value in enumerate(earlier) if value is not None}
        recording.read(tensors)
        replay()
        if recording.output is None:
            raise RuntimeError("a recording that was replayed has no output")
        owned = [(place, own) for place, own in enumerate(recording.gradients) if own is not None and place in kept]
        if owned:
            added = [kept.pop(place) for place, _ in owned]
            torch._foreach_add_([own for _, own in owned], added)  # pyright: ignore[reportPrivateImportUsage]
        self._give([kept.get(place, own) for place, own in enumerate(recording.gradients)])
        return recording.output.clone()

    def _record(self, key: Any, tensors: Mapping[str, Tensor], constants: tuple[Any, ...]) -> None:
        recording = Recording(self.step, self.parameters, tensors, constants)
        try:
            self.recorded[key] = recording, self.capture(recording)
        except Exception as error:
            self.works = False
            self.recorded.clear()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self.say(f"Steps run without a CUDA graph, which could not be recorded ({reason})")
        finally:
            # Recording goes through the step for nothing.
            self._give([None] * len(self.parameters))

    def _give(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient


class Recording:
    """One step on tensors of its own.

    Attributes:
        inputs: What it reads, by name.
        output: What it returned.
        gradients: Those that it left, for each parameter.
    """

    def __init__(
        self, step: Step, parameters: list[nn.Parameter], tensors: Mapping[str, Tensor], constants: tuple[Any, ...]
    ):
        self.step, self.parameters, self.constants = step, parameters, constants
        self.inputs = {name: value.clone() for name, value in tensors.items()}
        self.output: Tensor | None = None
        self.gradients: list[Tensor | None] = []

    def read(self, tensors: Mapping[str, Tensor]) -> None:
        """Take new values of the same shapes."""
        for name, value in tensors.items():
            self.inputs[name].copy_(value, non_blocking=True)

    def run(self) -> None:
        """Do the work, from no gradients on."""
        self.output, self.gradients = None, []
        for parameter in self.parameters:
            parameter.grad = None
        self.output = self.step(self.inputs, *self.constants)
        self.gradients = [parameter.grad for parameter in self.parameters]


class Captures:
    """CUDA graphs in one pool of memory, recorded on one stream."""

    def __init__(self) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def __call__(self, recording: Recording) -> Callable[[], None]:
        """The replay of ``recording``. Whatever fails, the device is left as it was."""
        outside, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        self.stream.wait_stream(outside)
        try:
            # On the stream of the recording: nodes of a graph of gradients stay with the stream that they were made on.
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP):
                    recording.run()
            self.stream.synchronize()
            recording.output, recording.gradients = None, []
            for parameter in recording.parameters:
                parameter.grad = None
            gc.collect()
            torch.cuda.empty_cache()
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                recording.run()
        except Exception:
            torch.cuda.set_stream(outside)
            recording.output, recording.gradients = None, []
            _tidy()
            torch.cuda.set_stream(outside)
            raise
        outside.wait_stream(self.stream)
        return graph.replay


def _tidy() -> None:
    """End what a recording that failed has left open: the random generators still count for it."""
    gc.collect()
    with suppress(RuntimeError):
        torch.cuda.synchronize()
    with suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.empty_cache()

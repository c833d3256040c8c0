"""One process's measurements: its budget, its models, and how a call is timed."""

import gc
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.on_gpu_parts.results import Ceilings, Results, Row, Work
from benchmarks.on_gpu_parts.sizes import SIZES, Scale

Found = TypeVar("Found")
LONGEST = 4.0
"""Seconds after which a call is not timed once more."""

PATIENCE, SHORTEST = 2.5, 60.0
"""How many times its estimate a piece of work may take; seconds that any may."""


class OutOfTimeError(Exception):
    """The budget is spent."""


class Session:
    """What all parts share.

    ``budget`` seconds are counted from ``started`` (by ``time.perf_counter``). Models are built when first asked for;
    the generator and the judge are not held at once.
    """

    def __init__(self, scale: Scale, budget: float, started: float, folder: Path, results: Results):
        self.scale: Scale = scale
        self.size, self.budget, self.started = SIZES[scale], budget, started
        self.folder, self.results, self.part = folder, results, ""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._models: dict[str, Any] = {}

    @property
    def real(self) -> bool:
        """Whether models are as large as those that people use."""
        return self.scale == "real"

    @property
    def ceilings(self) -> Ceilings:
        """What the device can do, which is measured before any part."""
        if self.results.ceilings is None:
            raise RuntimeError("nothing can be predicted before the ceilings are measured")
        return self.results.ceilings

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.perf_counter() - self.started)

    def say(self, text: str) -> None:
        """One line, at once, with the seconds since the start."""
        print(f"[{time.perf_counter() - self.started:6.1f}] {text}", flush=True)

    def model(self, name: str, build: Callable[[], Any]) -> Any:
        """The model of that name, built once, while no other is held."""
        if name not in self._models:
            self._models.clear()
            self.free()
            began = time.perf_counter()
            self._models[name] = build()
            self.wait()
            self.say(f"{name} built in {time.perf_counter() - began:.1f} s, {self.memory_text()}")
        return self._models[name]

    def forget(self) -> None:
        """Let go of the models, which a part has changed."""
        self._models.clear()

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give memory back, and count its peak anew."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        self.forget_peak()

    def forget_peak(self) -> None:
        """Count the peak of memory anew."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def memory(self) -> int | None:
        """The device's peak in bytes since :meth:`free`."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else None

    def memory_text(self) -> str:
        """The same, to be read."""
        peak = self.memory()
        return "no device memory" if peak is None else f"peak {peak / 2**30:.1f} GiB"

    def attempt(
        self, what: str, estimate: float, work: Callable[..., Found], *arguments: Any, patience: float = PATIENCE
    ) -> Found | None:
        """What ``work`` returns; None where it fails, which is told, or the budget left is below ``estimate`` (seconds
        on one 80 GB card at real size). What takes ``patience`` times as long is stopped (anything has a minute).
        Memory is given back after it.
        """
        self.forget_peak()
        estimate, name = estimate * self.size.estimates, f"{self.part}: {what}"
        if self.left < estimate:
            self.say(f"{name}: skipped, {self.left:.0f} s left and about {estimate:.0f} needed")
            self.results.skipped.append(name)
            return None
        failure = None
        try:
            with _no_longer_than(min(self.left, max(patience * estimate, SHORTEST))):
                return work(*arguments)
        except Exception as error:
            # Only a text is kept: the error would hold the frames, and they the memory.
            failure = f"{type(error).__name__}: {error}".strip()
            traceback.print_exc()
        finally:
            self.free()
            self.results.write(self.folder)
        self.say(f"{name}: failed, {failure[:300]}")
        self.results.failed[name] = failure
        self.results.write(self.folder)
        return None

    def time(self, call: Callable[[], Any], repeats: int = 5) -> float:
        """The median of up to ``repeats`` calls, in seconds. One that was made before has warmed up."""
        seconds: list[float] = []
        while len(seconds) < repeats and sum(seconds) < LONGEST:
            self.wait()
            began = time.perf_counter()
            call()
            self.wait()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    def predict(self, what: str, work: Work) -> tuple[float, str]:
        """The floor of ``work`` and what binds it; told before anything is measured."""
        floor, bound = work.floor(self.ceilings)
        text = f"{self.part}: {what}: predicted {floor:.3g} s ({bound})"
        if work.launches:
            eager, by = work.eager(self.ceilings)
            text += f"; operator by operator {eager:.3g} s ({by}, {work.launches:.0f} of them)"
        self.say(text)
        return floor, bound

    def record(
        self, what: str, seconds: float, unit: str, predicted: tuple[float | None, str] = (None, ""), **more: Any
    ) -> Row:
        """Keep a measurement, tell it and write it down. ``predicted`` is what :meth:`predict` said."""
        row = Row(self.part, what, seconds, unit, *predicted, memory=self.memory(), more=more)
        self.results.rows.append(row)
        gap = f", {row.gap:.1f} times the prediction" if row.gap else ""
        told = "".join(f", {name} {_short(value)}" for name, value in more.items())
        self.say(f"{self.part}: {what}: {seconds:.4g} s a {unit}{gap}, {self.memory_text()}{told}")
        self.results.write(self.folder)
        return row


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "[" + ", ".join(map(_short, value)) + "]" if isinstance(value, list) else str(value)


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise OutOfTimeError("the budget is spent")

    before, began = signal.signal(signal.SIGALRM, stop), time.perf_counter()
    outer, _ = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        # What this one is within goes on being watched.
        rest = max(outer - (time.perf_counter() - began), 0.1) if outer else 0.0
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, rest)

"""Steps of a rehearsal: each is tried by itself, and what it took, told or broke is noted."""

import gc
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pipelines.loop.rates import cards
from pipelines.loop.rehearsal import checks
from videoduet.config import to_dict
from videoduet.progress import console

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Step:
    """What was rehearsed: seconds, the peak of memory in bytes (of the process, without a GPU), and what is told."""

    name: str
    seconds: float
    peak: float
    told: str


@dataclass
class Rehearsal:
    """What came of it: steps, sentences about the whole run, notes, and what would fail later, each with its mend."""

    steps: list[Step] = field(default_factory=list[Step])
    whole_run: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    knobs: Mapping[str, str] = field(default_factory=dict[str, str])
    """What to lower where memory runs out, by the last part of a step's name; '' for any other step."""

    def attempt(self, name: str, work: Callable[[], str]) -> float | None:
        """Do ``work`` and note what it tells; what it raises is a problem (then None), else its seconds."""
        console.print(f"rehearsing {name}", style="dim", markup=False)
        _forget_peak()
        started = time.perf_counter()
        try:
            told = work()
        # Whatever a library raises would be raised in the run as well.
        except Exception as error:
            self.problems.append(checks.mended(name, error, self.knobs))
            told = "failed"
        seconds, peak = time.perf_counter() - started, _peak()
        gc.collect()
        if torch.cuda.is_available():
            # What is kept for later would be missing to a process that is started next.
            torch.cuda.empty_cache()
        self.steps.append(Step(name, seconds, peak, told))
        return None if told == "failed" else seconds

    def reckon(self, hours: Mapping[str, float], what: str) -> None:
        """Note the hours of the whole of it, part by part, and their rent where the card is known."""
        told = ", ".join(f"{part} {value:.2f}" for part, value in hours.items())
        total = sum(hours.values())
        self.whole_run.append(f"{what} at these rates, at most: {total:.2f} hours ({told}).")
        name = torch.cuda.get_device_name().lower() if torch.cuda.is_available() else ""
        if card := next((card for card in cards() if card.name.removeprefix("rtx") in name), None):
            self.whole_run.append(f"Rent at ${card.dollars:g} an hour: ${total * card.dollars:,.0f}.")

    def need(self, what: str, size: float, path: str | Path, option: str) -> None:
        """Note ``size`` bytes of ``what`` below ``path``; that they do not fit there is a problem."""
        self.whole_run.append(f"{what[0].upper()}{what[1:]} on disk: {size / 1e9:.2f} GB.")
        if problem := checks.no_room(what, size, path, option):
            self.problems.append(problem)


@contextmanager
def scratch(wanted: str | Path) -> Generator[Path]:
    """A folder beside ``wanted``, on the same disk, with all in it gone at the end; elsewhere where that may not be
    written.
    """
    wanted = Path(wanted).absolute()
    prefix = f".rehearsal_{wanted.name}_"
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=checks.existing(wanted.parent)))
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def killed(module: str, arguments: Sequence[str], begun: Callable[[], bool]) -> bool:
    """Start a command in a process of its own and kill it once it has ``begun``; False where it ended before."""
    # Its errors are told when the same is done here.
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None and not begun():
            time.sleep(0.02)
        return process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def killed_and_forgotten(module: str, config: Any, output: Path, begun: Callable[[], bool], what: str) -> str:
    """Kill the command that does ``config`` into ``output`` once it has ``begun``, and tell it.

    Where it ended too soon to be killed, its output is removed, so that the next step has work.
    """
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(to_dict(config)), encoding="utf-8")
    if killed(module, ["--config", str(file)], begun):
        return f"stopped {what}; the next line goes on from there"
    if begun():
        shutil.rmtree(output, ignore_errors=True)
        return "it ended before it could be killed; the next line starts anew"
    return "it ended before it had begun; the next line says why"


def described(parts: Mapping[str, Any]) -> str:
    """Precision and device of each model; that no key is missing, and none is left over, was seen to as it was
    loaded.
    """
    told = [
        f"{name} {str(next(part.parameters()).dtype).removeprefix('torch.')} {next(part.parameters()).device}"
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    ]
    return ", ".join([*told, "no key missing, none unexpected"])


def whole_batch(generator: Any, batch: int, speed: Any) -> tuple[float, str]:
    """Seconds of a video in a whole batch of ``batch``, drawn and decoded, and that as a sentence."""
    embeds = generator.encode_prompts(["a red circle moving left"] * batch)
    generator.rest()
    with generator.at_speed(speed):
        if torch.cuda.is_available():
            # Kernels are found, built and recorded at first use.
            generator.decode(generator.sample(embeds, range(batch))).cpu()
        started = time.perf_counter()
        frames = generator.decode(generator.sample(embeds, range(batch))).cpu()
        seconds = (time.perf_counter() - started) / batch
    shape = " x ".join(map(str, frames.shape[1:4]))
    return seconds, f"{batch} videos of {shape}, {seconds:.2f} s each"


def seconds_of_a_step(begun: float, ends: Sequence[float]) -> float:
    """How long the last of some steps took, by when they ended; a first one, since ``begun``; all there was, where none
    was left to do.
    """
    ends = ends or [time.perf_counter()]
    return max(ends[-1] - (ends[-2] if len(ends) > 1 else begun), 1e-3)


def size_of(files: Iterable[Path]) -> float:
    """Bytes of those of ``files`` that are files."""
    return float(sum(file.stat().st_size for file in files if file.is_file()))


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        CLEAR.write_text("5")


def _peak() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    with suppress(OSError, ValueError, StopIteration):
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    # Since the process began, where nothing better is known.
    scale = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)

"""Everything a GPU can tell in one process: ``python -m benchmarks.on_gpu [--size toy|real] [--budget SECONDS]``.

Each model is built once. Every part is guarded, timed, freed and within the budget; what operations and bytes predict
is said before it is measured. The output directory gets ``on_gpu.json`` and ``on_gpu.md``, a table with the prediction
beside each figure, after every row. *toy* are the models that ship, and runs on a CPU; *real* are T2V-Turbo's and
Qwen2.5-VL-7B's shapes with random weights, for a GPU of 80 GB.
"""

import datetime
import gc
import importlib
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]: exported, in a way that it does not follow
from rich.console import Console

from benchmarks.on_gpu_parts.results import Results, table
from benchmarks.on_gpu_parts.sizes import PARTS, Scale
from videoduet.errors import InputError


def main(size: Scale = "toy", budget: float = 300.0, output: Path = Path("runs/on_gpu"), parts: str = "") -> None:
    """Measure, and tell everything as soon as it is known.

    Args:
        size: The models that ship, or the size of those that people use, random (for a GPU).
        budget: Seconds; a part that would need more than what is left of them is skipped.
        output: Directory of on_gpu.json and on_gpu.md.
        parts: Names of parts with commas between them, measured in this order: sampling, denoiser, autoencoder, dpo,
            text, writing, kernels, compiled, judging, grpo (empty: all).
    """
    started = time.perf_counter()
    names = [name.strip() for name in parts.split(",")] if parts else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        raise InputError(f"parts names {unknown[0]!r}; give some of {', '.join(PARTS)}.", exit_code=2)
    results = measure(size, budget, output, names, started)
    Console(width=180).print(table(results.title, results.rows))
    for what in results.skipped:
        print(f"skipped: {what}")
    for what, failure in results.failed.items():
        print(f"failed: {what}: {failure[:200]}")


def measure(size: Scale, budget: float, output: Path, names: list[str], started: float) -> Results:
    """What the parts called ``names`` found."""
    import torch
    import transformers

    from benchmarks.on_gpu_parts.ceilings import ceilings
    from benchmarks.on_gpu_parts.session import Session

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    about = {
        "card": card, "date": str(datetime.datetime.now(datetime.UTC).date()),
        "command": "python -m benchmarks.on_gpu " + " ".join(sys.argv[1:] or [f"--size {size}"]),
        "torch": torch.__version__, "transformers": transformers.__version__, "budget": budget,
    }  # fmt: skip
    results = Results(about)
    session = Session(size, budget, started, output, results)
    session.attempt("libraries", 1.0, load, names, patience=math.inf)
    # What is loaded now stays; looking through it again after every part would take longer than many of them.
    gc.freeze()
    session.say(f"libraries loaded; {card}, torch {torch.__version__}")
    session.part = "ceilings"
    results.ceilings = session.attempt("all", 0.0, ceilings, session)
    session.say(f"ceilings: {results.ceilings}")
    for name in names:
        session.part = name
        session.attempt("all", 5.0, run_part, name, session, patience=math.inf)
    gc.unfreeze()
    about["seconds"] = time.perf_counter() - started
    results.write(output)
    session.say("end")
    return results


def load(names: list[str]) -> dict[str, Callable[[Any], None]]:
    """The functions of the parts called ``names``, with the libraries that they need."""
    paths = {name: PARTS[name].rpartition(".") for name in names}
    return {name: getattr(importlib.import_module(module), function) for name, (module, _, function) in paths.items()}


def run_part(name: str, session: Any) -> None:
    """Run one part."""
    load([name])[name](session)


if __name__ == "__main__":
    CLI(main, as_positional=False)

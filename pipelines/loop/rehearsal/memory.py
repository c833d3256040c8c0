"""Whether what a run will need fits into the memory that there is, before anything large is loaded."""

import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from pipelines.loop.config import RunConfig
from pipelines.loop.costs import memory
from pipelines.loop.rates import judge_size
from pipelines.loop.rehearsal.checks import real_size


def room() -> float:
    """Bytes that this process may have on its GPU, beside others there; without one, of the machine's memory, or up to
    the limit that the process was started with.
    """
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        # What was kept here for later is this process's own.
        return min(free + torch.cuda.memory_reserved(), torch.cuda.get_per_process_memory_fraction() * total)
    names = ("RLIMIT_AS", "RLIMIT_DATA") if sys.platform == "linux" else ()
    limits = [resource.getrlimit(getattr(resource, name))[0] for name in names]
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float(min([whole, *(limit for limit in limits if limit != resource.RLIM_INFINITY)]))


def too_large(config: RunConfig, available: float) -> Iterator[str]:
    """A sentence for each phase that needs more than ``available`` bytes, by the plan's model of memory, with what
    would make it smaller. What 'auto' finds out is taken at its smallest.
    """
    judge, align = config.judge, config.align
    known = judge.factory is None and judge.backend == "transformers" and judge.path is not None
    # A generator of no known size is seen when it is tried.
    sizes = real_size(config.generator.path), judge_size(judge.path or "") if known else None
    if align.gradient_checkpointing == "auto":
        align = replace(align, gradient_checkpointing="twice" if torch.cuda.is_available() else False)
    if judge.batch_size == "auto":
        judge = replace(judge, batch_size=2)
    for phase, needed in memory(replace(config, align=align, judge=judge), *sizes, available).items():
        if needed > available:
            yield f"{phase} needs about {needed / 1e9:.2f} GB, and there are {available / 1e9:.2f} GB; {KNOBS[phase]}."


KNOBS = {
    "sample": "lower generator.batch_size, or give generator.dtype bfloat16",
    "align": "set align.gradient_checkpointing true, align.micro_batch 1, or lower align.lora_rank",
    "rank": "lower judge.batch_size, or give judge.dtype bfloat16",
    "refresh": "lower refresh.training.micro_batch, or give refresh.training.load_in 4bit",
}
"""What to lower where memory does not suffice for a phase."""

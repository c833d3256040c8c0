"""Draw a round's videos, with their final latents."""

from collections.abc import Callable, Sequence
from pathlib import Path

from generators.base import Generator
from generators.drawing import draw_items
from generators.sampling import SamplingItem, shard_files
from pipelines.loop.config import GeneratorConfig
from videoduet.machines import ALONE, Machine
from videoduet.records import Prompt
from videoduet.seeding import seed_for
from videoduet.workspace import Workspace


def sample_round(
    load_generator: Callable[[], Generator], prompts: Sequence[Prompt], output: Path, directory: Workspace, *,
    config: GeneratorConfig, seed: int, round_number: int, machine: Machine = ALONE,
) -> None:  # fmt: skip
    """Draw N videos for each prompt from G_r: this machine's part, and the first one waits for the others'."""
    items = [
        SamplingItem(prompt, index, seed_for(seed, "sample", round_number, prompt.id, index))
        for prompt in prompts
        for index in range(config.videos_per_prompt)
    ]
    version, what = f"G_{round_number}", f"round {round_number}: sample"
    notes = draw_items(
        load_generator(), items, output, directory.root, version=version, round_number=round_number,
        batch_size=config.batch_size, speed=config.speed, what=what, machine=machine,
    )  # fmt: skip
    if machine.finishes:
        machine.wait_for(shard_files(output, len(items), version=version, batch_size=config.batch_size), what)
        directory.finish(output, samples=len(items), **({"notes": notes} if notes else {}))

"""Draw videos for any file of prompts.

    python -m pipelines.sample --generator DIR_OR_ID --prompts FILE --output DIR
    python -m pipelines.sample --generator DIR_OR_ID --prompts FILE --output DIR --best_of 8 --judge J

The same command resumes. With --best_of a judge picks one of several videos of each prompt. A round of a run is drawn
by ``python -m pipelines.phase sample``.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

import gc
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from generators.config import SamplingConfig
from pipelines.loop.best_of import BestOfConfig
from videoduet.commands import command_parser, guarded, made, quiet_libraries, read_line
from videoduet.errors import InputError
from videoduet.processes import FIRST_PROCESS
from videoduet.progress import console


def draw(config: SamplingConfig) -> Path:
    """The directory of what ``config`` says, drawn or gone on with; tells where the videos are."""
    from generators.drawing import draw_prompts

    quiet_libraries()
    output, videos = draw_prompts(config)
    # A judge may be loaded next: a generator that is dropped is not freed at once.
    gc.collect()
    if config.format != "mp4":
        console.print(f"As {config.format} they are in {output / config.format}.", markup=False)
    console.print(f"{videos} videos are in {output / 'videos'}, listed in {output / 'videos.csv'}.", markup=False)
    return output


def draw_best(config: SamplingConfig, best: BestOfConfig) -> None:
    """Draw, and pick the best of each prompt where ``best`` asks for it; tells where they are."""
    from pipelines.loop.best_of import pick_best

    if best.best_of > 1 and config.videos_per_prompt not in (1, best.best_of):
        raise InputError("Give --best_of or --videos_per_prompt, not both: one video is picked of all.", exit_code=2)
    output = draw(replace(config, videos_per_prompt=max(config.videos_per_prompt, best.best_of)))
    if best.best_of == 1 or not FIRST_PROCESS:
        return
    listed, picked, left_out = pick_best(best, output)
    for sentence in left_out:
        console.print(f"warning: {sentence}", markup=False, soft_wrap=True)
    console.print(f"The best of {best.best_of} for {picked} prompts are in {listed.parent}.", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_parser("pipelines.sample", __doc__)
    parser.add_class_arguments(SamplingConfig, None, fail_untyped=False)
    parser.add_class_arguments(BestOfConfig, None, fail_untyped=False)
    values = read_line(parser, arguments, SamplingConfig)
    picking = {item.name: values.pop(item.name) for item in fields(BestOfConfig)}
    config, best = made(SamplingConfig, parser, values), made(BestOfConfig, parser, picking)
    guarded(lambda: draw_best(config, best), "the same command")


if __name__ == "__main__":
    main()

"""Draw videos for any file of prompts.

    python -m pipelines.sample --generator DIR_OR_ID --prompts FILE --output DIR

The same command resumes. A round of a run is drawn by ``python -m pipelines.phase sample``.
"""

from collections.abc import Sequence
from pathlib import Path

from generators.config import SamplingConfig
from videoduet.commands import guarded, parse_command, quiet_libraries
from videoduet.progress import console


def draw(config: SamplingConfig) -> Path:
    """The directory of what ``config`` says, drawn or gone on with; tells where the videos are."""
    from generators.drawing import draw_prompts

    quiet_libraries()
    output, videos = draw_prompts(config)
    if config.format != "mp4":
        console.print(f"As {config.format} they are in {output / config.format}.", markup=False)
    console.print(f"{videos} videos are in {output / 'videos'}, listed in {output / 'videos.csv'}.", markup=False)
    return output


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse_command(SamplingConfig, "pipelines.sample", __doc__, arguments)
    guarded(lambda: draw(config), "the same command")


if __name__ == "__main__":
    main()

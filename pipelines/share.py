"""Share a run's videos, verdicts and pairs as a data set, and put such data sets together.

    python -m pipelines.share --sources [runs/mine] --output DIR
    python -m pipelines.share --sources [DIR, ANOTHER_DIR, runs/third] --output ALL

datasets.load_dataset(DIR, "pairs" | "comparisons" | "videos") loads it. What two sources both hold is kept once: a
video by its content, an opinion by its judge and its two videos.
"""

from collections.abc import Sequence
from pathlib import Path

from videoduet.commands import command_parser, guarded, read_line
from videoduet.progress import console


def run(sources: list[str], output: str) -> None:
    """Write the data set and say what is in it."""
    from pipelines.loop.shared import share

    found = share(sources, Path(output))
    console.print(
        f"{output}: {len(found.videos)} videos, {len(found.comparisons)} comparisons, {len(found.pairs)} pairs.",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_parser("pipelines.share", __doc__)
    # jsonargparse leaves parameters open.
    parser.add_argument("--sources", type=list[str], required=True, help="run directories and shared data sets")  # pyright: ignore[reportUnknownMemberType]
    parser.add_argument("--output", type=str, required=True, help="the directory to write")  # pyright: ignore[reportUnknownMemberType]
    options = read_line(parser, arguments)
    guarded(lambda: run(options["sources"], options["output"]), "the same command")


if __name__ == "__main__":
    main()

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


def run(sources: list[str], output: str, push_to_hub: str | None, public: bool) -> None:
    """Write the data set, say what is in it, and publish it where that is asked for."""
    from pipelines.loop.shared import share
    from pipelines.report.publishing import publish_export
    from videoduet.hub import check

    if push_to_hub:
        check(push_to_hub)
    found = share(sources, Path(output))
    console.print(
        f"{output}: {len(found.videos)} videos, {len(found.comparisons)} comparisons, {len(found.pairs)} pairs.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if push_to_hub:
        console.print(f"Published: {publish_export(output, push_to_hub, public=public)}", markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_parser("pipelines.share", __doc__)
    # jsonargparse leaves parameters open.
    parser.add_argument("--sources", type=list[str], required=True, help="run directories and shared data sets")  # pyright: ignore[reportUnknownMemberType]
    parser.add_argument("--output", type=str, required=True, help="the directory to write")  # pyright: ignore[reportUnknownMemberType]
    parser.add_argument("--push_to_hub", type=str | None, default=None, help="OWNER/NAME to publish it under as well")  # pyright: ignore[reportUnknownMemberType]
    parser.add_argument("--public", type=bool, default=False, help="whether a new repository is for everybody to see")  # pyright: ignore[reportUnknownMemberType]
    options = read_line(parser, arguments)
    guarded(lambda: run(**options), "the same command")


if __name__ == "__main__":
    main()

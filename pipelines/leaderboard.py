"""Rank generators by what a judge says of their videos.

    python -m pipelines.leaderboard FOLDER_BY_MODEL --judge J --prompts PROMPTS --output DIR

FOLDER_BY_MODEL holds a folder of videos for each generator, called like their prompts. Prints mean score and win rate
by dimension and by category of prompt, with intervals by prompts, and writes leaderboard.json and leaderboard.html,
with charts and example videos. The same command goes on where it was.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from pathlib import Path

from reward_model.measuring.config import LeaderboardConfig
from videoduet.commands import CommandParser, guarded, program
from videoduet.progress import console
from videoduet.video import FrameSampling


def run(config: LeaderboardConfig, folder: str) -> None:
    """Judge, print how the generators stand, and write the page."""
    from reward_model.measuring.board import board

    made = board(config, folder)
    if made is None:
        return
    result, videos, found = made
    from pipelines.report.leaderboard import show, write_page

    show(result)
    page = config.report or (f"{Path(config.output) / 'leaderboard.html'}" if config.output else None)
    if page is not None:
        write_page(page, result, videos, found.rows)
        console.print(f"The page is {page}.", markup=False)


def parser() -> CommandParser:
    """The parser of the command line."""
    made = CommandParser(prog=program("pipelines.leaderboard"), description=__doc__)
    made.add_argument("folder", help="A folder with a folder of videos for each generator.")
    made.add_class_arguments(LeaderboardConfig, None, fail_untyped=False)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    chosen = parser().parse_args(None if arguments is None else list(arguments)).as_dict()
    folder = chosen.pop("folder")
    if chosen["frames"] is not None:
        chosen["frames"] = FrameSampling(**chosen["frames"])
    resume = "the same command" + ("" if chosen["output"] else " and an --output, which keeps what is done")
    guarded(lambda: run(LeaderboardConfig(**chosen), folder), resume)


if __name__ == "__main__":
    main()

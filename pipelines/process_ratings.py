"""Make mean opinion scores of raw ratings: ``python -m pipelines.process_ratings --ratings FILE --output DIR``.

z-scores by subject, 100 (z + 3) / 6, and their mean by video (AIGV-Assessor, section 3.3); ``--screening bt500`` leaves
out the subjects that ITU-R BT.500 rejects. Writes MOS.csv, which is data set own_ratings with the videos beside it,
ten random splits 4:1, by prompt and by video, and results.json. Rows that cannot be used are listed.
"""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from reward_model.datasets.config import RatingsConfig
from videoduet.commands import guarded, parse_command
from videoduet.progress import console

SHOWN = 20
"""Bad rows that are printed; results.json has all of them."""


def show(results: dict[str, Any]) -> None:
    """Print who rated what, the splits, and what could not be used."""
    table = Table("", "subjects", "rejected", "ratings", "± (95 %)", title=f"{results['videos']} videos with a MOS")
    for name, worth in results["dimensions"].items():
        rejected = worth["rejected"] or [f"({subject})" for subject in worth["would_be_rejected"]]
        cells = (worth["subjects"], ", ".join(rejected) or "–", worth["ratings"], f"{worth['half_interval']:.2f}")
        table.add_row(name, *map(str, cells))
    console.print(table)
    for name, worth in results["dimensions"].items():
        if alike := worth["rated_everything_alike"]:
            _say(f"{name}: {', '.join(alike)} rated everything alike, so nothing of theirs counts.")
        if worth["would_be_rejected"]:
            _say(f"{name}: BT.500 would reject who stands in brackets; --screening bt500 leaves them out.")
    for by, split in results["splits"].items():
        _say(
            f"Ten splits by {by}: {split['test_videos']:.0f} test videos each, {100 * split['shared']:.0f} % of them "
            "with a prompt that is trained on as well."
        )
    if lacking := results["without_every_dimension"]:
        _say(f"{len(lacking)} videos lack a score in some dimension and are left out, such as {lacking[0]}.")
    bad = results["bad_rows"]
    for row in bad[:SHOWN]:
        _say(row)
    if bad:
        _say(f"{len(bad)} rows or ratings could not be used.")


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def parse(arguments: Sequence[str] | None = None) -> RatingsConfig:
    """The config that a command line says (None: the process's own)."""
    return parse_command(RatingsConfig, "pipelines.process_ratings", __doc__, arguments)


def run(config: RatingsConfig) -> None:
    """Make the scores and print what came out."""
    from reward_model.datasets.rated import process_ratings

    show(process_ratings(config))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    config = parse(arguments)
    guarded(lambda: run(config), "the same command")


if __name__ == "__main__":
    main()

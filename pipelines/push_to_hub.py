"""Publish an export, a data set or all that a finished run leaves on the Hugging Face hub, private by default.

    python -m pipelines.push_to_hub --folder runs/mine/final/generator --repository OWNER/NAME
    python -m pipelines.push_to_hub --folder runs/mine --repository OWNER/NAME

A run's exports go to OWNER/NAME-generator, OWNER/NAME-judge and so on. Cards are made where there are none, and no path
of this machine is sent. Sign in first: hf auth login, or HF_TOKEN.
"""

from collections.abc import Sequence
from pathlib import Path

from videoduet.commands import command_parser, guarded, read_line
from videoduet.progress import console


def push(folder: str, repository: str, public: bool) -> None:
    """Publish and say where."""
    from pipelines.report.publishing import publish_export, publish_final

    if (Path(folder) / "final").is_dir():
        addresses = publish_final(folder, repository, public=public)
    else:
        addresses = [publish_export(folder, repository, public=public)]
    for address in addresses:
        console.print(f"Published: {address}", markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_parser("pipelines.push_to_hub", __doc__)
    # jsonargparse leaves parameters open.
    parser.add_argument("--folder", type=str, required=True, help="a run, one of its exports, or a shared data set")  # pyright: ignore[reportUnknownMemberType]
    parser.add_argument("--repository", type=str, required=True, help="OWNER/NAME on the hub")  # pyright: ignore[reportUnknownMemberType]
    parser.add_argument("--public", type=bool, default=False, help="whether a new repository is for everybody to see")  # pyright: ignore[reportUnknownMemberType]
    options = read_line(parser, arguments)
    guarded(lambda: push(**options), "the same command")


if __name__ == "__main__":
    main()

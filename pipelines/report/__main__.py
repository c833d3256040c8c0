"""Write RUN_DIR/report.html: one page, without outside resources, that any browser opens offline. It needs no GPU and
changes nothing else, so it can be written at any time, also while the run is going on.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

from videoduet.commands import command_parser, guarded, read_line


def run(run_dir: str) -> None:
    """Write the page and print its path. Raises InputError where ``run_dir`` holds no run or cannot be written."""
    from pipelines.report.page import write_report

    print(write_report(run_dir))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_parser("pipelines.report", __doc__)
    parser.add_argument("run_dir", type=str, help="a directory that united_finetune wrote, for example runs/my_run")
    run_dir = read_line(parser, arguments)["run_dir"]
    guarded(lambda: run(run_dir), "the same command")


if __name__ == "__main__":
    main()

"""Make the environment in which the real vbench package scores videos. This project's own is not touched.

standard: eleven dimensions on current torch. full: scene, and the four dimensions that detect objects, on the package's
own pins and detectron2; it needs Python 3.10 or 3.11, a C++ compiler, and detectron2's source. The same command goes on
after a stop. It needs the package index, or wheels where pip finds them (PIP_FIND_LINKS).
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

from rich.markup import escape

from evaluation.vbench.environment import DETECTRON2, NONCOMMERCIAL, TierName, environments_dir
from evaluation.vbench.setup import readiness, set_up, weights_table
from videoduet.commands import command_parser, guarded, read_line
from videoduet.errors import InputError
from videoduet.progress import console


def run(tier: TierName, noncommercial: bool, python: str | None, detectron2: str) -> None:
    """Make and check the environment, and say what can be scored in it.

    Raises InputError where a step fails, or where a dimension that should load there does not.
    """
    found = set_up(
        tier, noncommercial=noncommercial, python=python, detectron2=detectron2,
        tell=lambda sentence: console.print(escape(sentence), soft_wrap=True),
    )  # fmt: skip
    folder = environments_dir() / tier
    states, broken = readiness(tier, found, noncommercial)
    console.print(f"{folder}:", markup=False, soft_wrap=True)
    for name, state in states.items():
        console.print(f"  {name}: {state}", markup=False, soft_wrap=True, highlight=False)
    console.print("Weights, and where to put them: the same command with --list-weights.", soft_wrap=True)
    if broken:
        raise InputError(
            f"{', '.join(broken)} should load there and did not; remove {folder} and run the same command again, "
            "or go on with the others."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_parser("pipelines.setup_vbench", __doc__)
    parser.add_argument("--tier", type=TierName, default="standard", help="which environment to make")
    opt_in = f"install that too: {NONCOMMERCIAL}; your use must not be commercial"
    parser.add_argument("--noncommercial", action="store_true", help=opt_in)
    parser.add_argument("--python", type=str | None, default=None, help="the interpreter to build on")
    parser.add_argument("--detectron2", type=str, default=DETECTRON2, help="full: a folder, wheel or address for pip")
    parser.add_argument("--list-weights", action="store_true", help="say which weights are needed, and stop")
    options = read_line(parser, arguments)
    if options.pop("list_weights"):
        console.print(weights_table())
        return
    guarded(lambda: run(**options), "the same command")


if __name__ == "__main__":
    main()

"""``python -m pipelines.evaluate_vbench setup``: make and check the environments that vbench runs in."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser
from rich.markup import escape
from rich.table import Table

from evaluation.vbench.environment import DETECTRON2, GRIT, NONCOMMERCIAL, TierName, environments_dir, set_up
from evaluation.vbench.weights import WEIGHTS, missing_weights, weights_dir
from videoduet.commands import guarded
from videoduet.errors import InputError
from videoduet.progress import console

DESCRIPTION = """Make the environment in which the real vbench package scores videos. This project's own is not touched.

standard: eleven dimensions on current torch. full: scene, and the four dimensions that detect objects, on the package's
own pins and detectron2; it needs Python 3.10 or 3.11, a C++ compiler, and detectron2's source. The same command goes on
after a stop. It needs the package index, or wheels where pip finds them (PIP_FIND_LINKS)."""


def setup(arguments: Sequence[str]) -> None:
    """The command line of ``setup``."""
    parser = ArgumentParser(prog="python -m pipelines.evaluate_vbench setup", description=DESCRIPTION)
    parser.add_argument("--tier", type=TierName, default="standard", help="which environment to make")
    opt_in = f"install that too: {NONCOMMERCIAL}; your use must not be commercial"
    parser.add_argument("--noncommercial", action="store_true", help=opt_in)
    parser.add_argument("--python", type=str | None, default=None, help="the interpreter to build on")
    parser.add_argument("--detectron2", type=str, default=DETECTRON2, help="full: a folder, wheel or address for pip")
    parser.add_argument("--list-weights", action="store_true", help="say which weights are needed, and stop")
    options = parser.parse_args(list(arguments))
    if options.list_weights:
        console.print(weights_table())
        return

    def command() -> None:
        found = set_up(
            options.tier, noncommercial=options.noncommercial, python=options.python, detectron2=options.detectron2,
            tell=lambda sentence: console.print(escape(sentence), soft_wrap=True),
        )  # fmt: skip
        folder, broken = environments_dir() / options.tier, []
        console.print(f"{folder}:", markup=False, soft_wrap=True)
        for name, reason in found["dimensions"].items():
            if reason is None:
                absent = missing_weights(WEIGHTS[name], weights_dir())
                state = "weights missing: " + ", ".join(item.path for item in absent) if absent else "ready"
            elif name == "imaging_quality" and not options.noncommercial:
                state = f"left out: {NONCOMMERCIAL}; if yours is not commercial, add --noncommercial"
            else:
                state = f"does not load: {reason}"
                if name not in GRIT:
                    broken.append(name)
            console.print(f"  {name}: {state}", markup=False, soft_wrap=True, highlight=False)
        console.print("Weights, and where to put them: the same command with --list-weights.", soft_wrap=True)
        if broken:
            raise InputError(
                f"{', '.join(broken)} should load there and did not; remove {folder} and run the same command again, "
                "or go on with the others."
            )

    guarded(command, "the same command")


def weights_table() -> Table:
    """Each file of weights: for which dimensions, whether it is there, how large, from where."""
    needed: dict[tuple[str, str, str, bool], list[str]] = {}
    for name, files in WEIGHTS.items():
        for item in files:
            key = (item.path, item.size(), item.address, not missing_weights((item,), weights_dir()))
            needed.setdefault(key, []).append(name)
    shown = Table("put it at", "there", "size", "for", "from", title=f"Weights, below {weights_dir()}")
    for (path, size, address, there), names in needed.items():
        shown.add_row(path, "yes" if there else "no", size, ", ".join(names), escape(address))
    shown.add_row("(nothing)", "yes", "", "temporal_flickering of your own videos", "")
    shown.caption = (
        "Set VBENCH_CACHE_DIR for another folder. Nothing is downloaded: a dimension whose weights are missing is not "
        "scored. Official temporal_flickering also needs raft-things.pth, for its filter of moving videos."
    )
    return shown

"""All commands under one name: ``videoduet NAME …`` is ``python -m pipelines.MODULE …``.

``videoduet --help`` lists the names, ``videoduet NAME --help`` the options of one. With argcomplete installed
(``pip install videoduet[completion]``) ``eval "$(videoduet --completion bash)"`` lets the shell complete both.
"""

import argparse
import ast
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from videoduet import __version__
from videoduet.commands import flush, typed_as
from videoduet.progress import console

COMMANDS = {
    "run": "united_finetune",
    "phase": "phase",
    "sample": "sample",
    "judge": "judge",
    "report": "report.__main__",
    "train_generator": "train_generator",
    "train_reward_model": "train_reward_model",
    "audit_judge": "audit_judge",
    "evaluate_judge": "evaluate_judge",
    "process_ratings": "process_ratings",
    "leaderboard": "leaderboard",
    "evaluate_vbench": "evaluate_vbench",
    "setup_vbench": "setup_vbench",
    "convert_generator": "convert_generator",
    "convert_judge": "convert_judge",
    "export": "export",
    "share": "share",
    "push_to_hub": "push_to_hub",
}
"""The module below ``pipelines`` that each name runs, by its ``main(arguments)``."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first of ``arguments`` (None: the process's) names, with the others.

    An unknown name ends the program with exit code 2 and one sentence.
    """
    if ASKED in os.environ:
        complete()
    name, *others = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name == "--completion":
        print(completion(others))
    elif name in ("-h", "--help"):
        with suppress(BrokenPipeError):
            print(usage())
        flush()
    elif name == "--version":
        print(__version__)
    elif name not in COMMANDS:
        near = difflib.get_close_matches(name.replace("-", "_"), [*COMMANDS, *COMMANDS.values()], n=1)
        named = {module: command for command, module in COMMANDS.items()}
        meant = f"did you mean {named.get(near[0], near[0])}?" if near else "videoduet --help lists them."
        console.print(f"error: there is no command {name}; {meant}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    else:
        # As `python -m` does, since a judge of one's own lies where the run is started; last, so that a folder there
        # that is called as one of ours hides nothing.
        sys.path.append(os.getcwd())
        command = importlib.import_module(f"pipelines.{COMMANDS[name]}")
        with typed_as(f"videoduet {name}"):
            command.main(others)


ASKED = "_ARGCOMPLETE"
"""Is in the environment where a shell asks how its line may go on: the word from which on is looked at, from 1."""
SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")


def completion(shells: Sequence[str]) -> str:
    """What makes the first of ``shells`` complete ``videoduet`` and its options. Ends the program with exit code 2 and
    a sentence where argcomplete is missing, or does not know the shell.
    """
    shell = next(iter(shells), "bash")
    if find_spec("argcomplete") is None:
        said = 'completion needs argcomplete; pip install "videoduet[completion]".'
    elif shell not in SHELLS:
        said = f"there is no completion for {shell}; give one of {', '.join(SHELLS)}."
    else:
        return importlib.import_module("argcomplete").shellcode(["videoduet"], shell=shell)
    console.print(f"error: {said}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)


def complete() -> None:
    """Answer the shell's question: with the names of commands, or, after one, by its own parser with its options.

    That one answers by itself when it is asked to read a line, and the program ends.
    """
    argcomplete = importlib.import_module("argcomplete")
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    _, typed, *more = [*line.split(), ""] if line.endswith(" ") else line.split()
    if more and typed in COMMANDS:
        os.environ[ASKED] = "2"
        importlib.import_module(f"pipelines.{COMMANDS[typed]}").main([])
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=list(COMMANDS))
    argcomplete.autocomplete(parser)


def usage() -> str:
    """The help: each command with what it does. None of them is imported for it."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:{width}}  {summary(module)}" for name, module in COMMANDS.items())
    return "\n".join(
        ["usage: videoduet COMMAND [options]", "", *lines, "", "videoduet COMMAND --help explains the options of one."]
    )


def summary(module: str) -> str:
    """What ``pipelines.MODULE`` does: the first line of its docstring, without the command line that may follow."""
    source = Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    first, *_ = (ast.get_docstring(ast.parse(source)) or "").split("\n")
    return first.split(": ``")[0].rstrip(".")


if __name__ == "__main__":
    main()

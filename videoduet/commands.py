"""How a command reads its line, and how it ends: one sentence for what the user can mend, and an exit code.

0: done. 1: something the user gave cannot be used, or the machine gave out. 2: wrong usage. 130: stopped by Ctrl-C.
Nothing here loads a model or a library of models, so help and usage errors come at once.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

import argparse
import difflib
import importlib
import io
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import is_dataclass
from typing import Any, NoReturn, TypeVar, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace
from rich.markup import escape

from videoduet.config import SCHEMA_VERSION, refuse_newer, resolve
from videoduet.errors import InputError
from videoduet.loading import reason
from videoduet.mistakes import wrong_value
from videoduet.progress import console

Config = TypeVar("Config")
_TYPED: ContextVar[str | None] = ContextVar("typed", default=None)
"""What was typed in place of ``python -m MODULE``."""


class HelpFormatter(DefaultHelpFormatter):
    """Wraps paragraphs and keeps lines that are indented, such as examples, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = re.split(r"\n\s*\n", textwrap.dedent(text).strip("\n"))
        return "\n\n".join(
            paragraph if paragraph.startswith(" ") else textwrap.fill(" ".join(paragraph.split()), width)
            for paragraph in paragraphs
        )


class CommandParser(ArgumentParser):
    """A parser that tells a mistake alone, in one sentence, with the option that was probably meant."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, formatter_class=HelpFormatter, **named)

    def parse_args(self, *arguments: Any, **named: Any) -> Any:
        """What a line says; whatever the parser raises at a file of options that is none is a mistake on the line."""
        try:
            return super().parse_args(*arguments, **named)
        except InputError as error:
            self.error(str(error))
        except BrokenPipeError:
            # Nobody reads the help to its end.
            self.exit()
        except Exception as error:
            self.error(f"The options cannot be read ({reason(error)}); give --config a YAML file of them, in UTF-8.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the program, though nobody may read the help to its end."""
        flush()
        super().exit(status, message)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print ``message`` and what was probably meant, and end with exit code 2."""
        console.print(f"[bold red]error:[/] {escape(self._mended(message))}", highlight=False, soft_wrap=True)
        sys.exit(2)

    def _mended(self, message: str) -> str:
        sentence = " ".join(message.split())
        if (wrong := wrong_value(sentence)) is not None:
            return wrong
        if missing := MISSING.fullmatch(sentence):
            return f"{missing[1]}{', '.join(map(self._typed, missing[2].split(', ')))} (--help explains them)"
        unknown = UNKNOWN_OPTION.search(sentence)
        if unknown is None:
            return f"{sentence} (--help lists the options)" if sentence.startswith("expected") else sentence
        name = ".".join(part for part in unknown.groups() if part).split("=")[0]
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        near = difflib.get_close_matches(f"--{name.lstrip('-')}", options, n=1)
        meant = f"did you mean {near[0]}?" if near else "--help lists the options."
        return f"{sentence.rstrip('.')}; {meant}"

    def named(self, option: str) -> list[argparse.Action]:
        """The actions that ``option`` is the name of: one, or none."""
        return [action for action in self._actions if option in action.option_strings]

    def _typed(self, name: str) -> str:
        """A missing argument as it is typed: with dashes, without the subcommand that jsonargparse puts before it."""
        if any(f"--{name}" in action.option_strings for action in self._actions):
            return f"--{name}"
        before, _, rest = name.partition(".")
        return f"--{rest}" if rest and any(before in (action.choices or ()) for action in self._actions) else name


MISSING = re.compile(r"(the following arguments are required: )(.+)")
"""How argparse says what is missing."""
UNKNOWN_OPTION = re.compile(
    r"[Uu]nrecognized arguments?: (--\S+)|[Kk]ey '([^']+)' is not expected|Option '([^']+)' is not accepted"
    r"|Group '([^']+)' does not accept option '([^']+)'"
)
"""How jsonargparse says that an option is none: on the command line, in a file, in a section of a file."""


def program(module: str) -> str:
    """How the command in ``module`` was called: ``python -m MODULE``, or as :func:`typed_as` says."""
    return _TYPED.get() or f"python -m {module}"


@contextmanager
def typed_as(name: str) -> Generator[None]:
    """Within it a command's help calls it ``name``."""
    before = _TYPED.set(name)
    try:
        yield
    finally:
        _TYPED.reset(before)


def flush() -> None:
    """Flush standard output. That whoever read it has left (``| head``) is no error, now or when Python flushes it at
    its end.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command_parser(prog: str, description: str | None) -> CommandParser:
    """The parser of ``python -m PROG``, which takes a YAML file of its options as ``--config``."""
    usage = f"{program(prog)} [--config FILE] [options]"
    parser = CommandParser(prog=program(prog), usage=usage, description=description)
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    # Kept in every config that is written; nobody types it.
    parser.add_argument("--schema_version", type=int, default=SCHEMA_VERSION, help=argparse.SUPPRESS)
    return parser


def read_line(parser: CommandParser, arguments: Sequence[str] | None, kind: type | None = None) -> dict[str, Any]:
    """The values on a command line (None: the process's) for the dataclass ``kind`` (None: it is for none), its
    sections made; recipes are found in the package too.

    Wrong usage ends the program with exit code 2 and a message that names it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    found = [_found(*pair) for pair in zip(["", *given], given, strict=False)]
    options = parser.parse_args([_said(parser, *pair) for pair in zip(found, [*found[1:], "--"], strict=False)])
    for name, hint in (get_type_hints(kind) if kind else {}).items():
        if is_dataclass(hint) and not isinstance(options[name], Namespace):
            parser.error(f"{name} is {options[name]!r}, which is no section; give its options, each by its name.")
    try:
        values = parser.instantiate_classes(options)
        refuse_newer(values["schema_version"] or 0, "This config")
    except InputError as error:
        parser.error(str(error))
    return {name: value for name, value in vars(values).items() if name not in ("config", "schema_version")}


def _found(before: str, argument: str) -> str:
    """``argument``, with the path of a recipe resolved."""
    if before == "--config":
        return resolve(argument)
    return f"--config={resolve(argument[9:])}" if argument.startswith("--config=") else argument


def _said(parser: CommandParser, argument: str, after: str) -> str:
    """``argument``; what is true or false is true where nothing is said ``after`` it."""
    switch = any(getattr(action, "_typehint", None) is bool for action in parser.named(argument))
    return f"{argument}=true" if switch and after.startswith("--") else argument


def parse_command(kind: type[Config], prog: str, description: str | None, arguments: Sequence[str] | None) -> Config:
    """Read the command line of ``python -m PROG`` into the dataclass ``kind``.

    Wrong usage ends the program with exit code 2 and a message that names it.
    """
    parser = command_parser(prog, description)
    parser.add_class_arguments(kind, None, fail_untyped=False)
    return made(kind, parser, read_line(parser, arguments, kind))


def parse_rehearsed(
    kind: type[Config], prog: str, description: str | None, arguments: Sequence[str] | None
) -> tuple[Config, bool]:
    """The same, and whether ``--rehearse`` was given, which is no part of the config."""
    config, found = _with_switches(kind, prog, description, arguments, {"rehearse": REHEARSE})
    return config, found["rehearse"]


def parse_planned(
    kind: type[Config], prog: str, description: str | None, arguments: Sequence[str] | None
) -> tuple[Config, bool, bool]:
    """The same, and whether ``--plan`` and whether ``--rehearse`` was given."""
    config, found = _with_switches(kind, prog, description, arguments, {"plan": PLAN, "rehearse": REHEARSE})
    return config, found["plan"], found["rehearse"]


def _with_switches(
    kind: type[Config], prog: str, description: str | None, arguments: Sequence[str] | None, switches: Mapping[str, str]
) -> tuple[Config, dict[str, bool]]:
    parser = command_parser(prog, description)
    parser.add_class_arguments(kind, None, fail_untyped=False)
    for name, told in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=told)
    values = read_line(parser, arguments, kind)
    found = {name: bool(values.pop(name)) for name in switches}
    return made(kind, parser, values), found


def made(kind: type[Config], parser: CommandParser, values: dict[str, Any]) -> Config:
    """The config ``kind`` of ``values``; what is impossible among them ends the program with exit code 2."""
    try:
        return kind(**values)
    except InputError as error:
        parser.error(str(error))


PLAN = "print what this would cost, and stop"
"""What ``--plan`` is for."""
REHEARSE = "do everything once at its smallest with these models and data, tell what would fail later, and stop"
"""What ``--rehearse`` is for."""
BROKEN_PIPE = 141
"""The exit code of what wrote to a program that had left, as shells give it."""

LESS_MEMORY = (
    "lower the batch size (of training: micro_batch, with gradient_checkpointing: true), or give dtype: bfloat16"
)
"""The mend of what does not fit into memory."""


def guarded(command: Callable[[], object], resume: str) -> None:
    """Run a command; what the user can mend ends it with one sentence and an exit code, not a traceback.

    What standard output cannot say (the name of a file that is no UTF-8) is escaped on it with a backslash.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command()
        flush()
    except BrokenPipeError:
        flush()
        sys.exit(BROKEN_PIPE)
    except InputError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, markup=True, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.print(f"\nStopped. Nothing is lost; go on with: {resume}", soft_wrap=True, markup=False)
        sys.exit(130)
    except OSError as error:
        message = f"error: {error}; mend that (space, permissions, a path), then go on with: {resume}"
        console.print(message, soft_wrap=True, markup=False)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        # Torch's own class has this name; commands load torch only where they need it.
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        message = f"error: memory ran out ({reason(error)[:200]}); {LESS_MEMORY}, then go on with: {resume}"
        console.print(message, soft_wrap=True, markup=False)
        sys.exit(1)


def quiet_libraries(libraries: Iterable[str] = ("diffusers", "transformers")) -> None:
    """Keep the libraries' own bars and warnings off a terminal that shows ours. Commands call it; importing changes
    nothing.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for library in libraries:
        # A tiny model loads in a blink, a large one says so itself.
        importlib.import_module(f"{library}.utils.logging").disable_progress_bar()

"""``videoduet COMMAND``: the commands under one name."""

import importlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipelines import cli
from pipelines.report.judgements_text import print_json, print_json_lines
from videoduet import __version__
from videoduet.commands import guarded, parse_command

PIPELINES = Path(cli.__file__).parent


def test_every_command_has_a_name():
    files = {path.stem for path in PIPELINES.glob("*.py")} - {"__init__", "cli"}
    assert files == {module for module in cli.COMMANDS.values() if "." not in module}
    assert (PIPELINES / "report" / "__main__.py").exists()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_tells_what_each_command_does(arguments, capsys):
    cli.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    told = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert told.keys() == cli.COMMANDS.keys()
    assert told["run"].startswith("The whole loop")
    assert told["judge"] == "Judge videos: which is better, how good, what is seen, and why"
    assert not any("``" in sentence for sentence in told.values())


def test_help_imports_no_command():
    program = """if True:
        import sys
        from pipelines.cli import main
        main(["--help"])
        print([name for name in sys.modules if name == "torch" or name.startswith("pipelines.")])
    """
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "['pipelines.cli']"


def test_the_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("name", "module"), [("judge", "judge"), ("run", "united_finetune"), ("report", "report.__main__")]
)
def test_a_command_gets_all_that_follows_its_name(name, module, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setitem(sys.modules, f"pipelines.{module}", SimpleNamespace(main=calls.append))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    cli.main([name, "compare", "--help", "a.mp4"])
    assert calls == [["compare", "--help", "a.mp4"]]
    # A judge of one's own is found where the run is started, as with `python -m`.
    assert sys.path[-1] == os.getcwd()


def test_the_process_s_arguments_are_read_where_none_are_given(monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "pipelines.sample", SimpleNamespace(main=calls.append))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["videoduet", "sample", "--seed", "1"])
    cli.main()
    assert calls == [["--seed", "1"]]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("juge", "did you mean judge?"),
        ("evaluate-judge", "did you mean evaluate_judge?"),
        ("united_finetune", "did you mean run?"),
        ("xyzzy", "videoduet --help lists them."),
    ],
)
def test_an_unknown_command_is_told_with_the_nearest(name, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: there is no command {name}; {meant}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_a_command_calls_it_as_it_was_typed(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = importlib.import_module(f"pipelines.{cli.COMMANDS[name]}")
    for run, called in (
        (lambda: cli.main([name, "--help"]), f"videoduet {name}"),
        (lambda: module.main(["--help"]), f"python -m pipelines.{cli.COMMANDS[name].removesuffix('.__main__')}"),
    ):
        with pytest.raises(SystemExit) as ended:
            run()
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: {called} ")


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["convert_generator", "t2v_turbo", "--output", "o"], "--checkpoint, --tokenizer"),
        (["phase", "sample"], "--run_dir"),
        (["report"], "run_dir"),
    ],
)
def test_what_is_missing_is_called_as_it_is_typed(arguments, missing, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    assert said == f"error: the following arguments are required: {missing} (--help explains them)"


@pytest.mark.parametrize("arguments", [["--help"], ["phase", "--help"]])
def test_a_reader_that_leaves_early_is_no_error(arguments):
    """As in ``videoduet run --help | head -1``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    said = process.stderr.read().decode()
    assert not said, said
    assert process.wait() == 0
    process.stderr.close()


def test_a_reader_that_leaves_a_command_s_output_ends_it_quietly(capsys):
    def left() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as ended:
        guarded(left, "the same command")
    assert ended.value.code == 141 and capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_can_be_read_whatever_standard_output_says(encoding, monkeypatch):
    row = {"prompt": "ein Café, 家 🏠, \u2028", "video": "b\udcff.mp4"}
    for write, read in (
        (lambda: print_json(row), json.loads),
        (lambda: print_json_lines([row]), lambda text: json.loads(*text.removesuffix("\n").split("\n"))),
    ):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, newline=""))
        guarded(write, "the same command")
        assert read(written.getvalue().decode(encoding)) == row


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]
)
def test_memory_that_runs_out_ends_in_one_sentence(capsys, error):
    def work():
        raise error

    with pytest.raises(SystemExit) as ended:
        guarded(work, "the same command")
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 1 and "memory ran out" in said and "batch size" in said and "the same command" in said


def test_another_runtime_error_is_no_memory():
    def work():
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault"):
        guarded(work, "the same command")


@dataclass(frozen=True, kw_only=True)
class Switched:
    """A switch beside a number."""

    plan: bool = False
    seed: int = 0


@pytest.mark.parametrize(
    ("typed", "plan", "seed"),
    [(["--plan"], True, 0), (["--plan", "--seed", "3"], True, 3), (["--plan", "false"], False, 0), ([], False, 0)],
)
def test_what_is_true_or_false_is_true_where_it_is_named_alone(typed, plan, seed):
    assert parse_command(Switched, "switched", None, typed) == Switched(plan=plan, seed=seed)

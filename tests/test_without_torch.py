"""What must answer at once: configs, help and usage errors, without the libraries that take seconds to import."""

import ast
import json
import subprocess
import sys

import pytest
from source_tree import HEAVY, ROOT, files, module_name, tree

# A library that is asked for is written down and refused: whoever asks fails at once, and the next is judged apart.
PROGRAM = """
import contextlib, importlib, io, json, sys

class Refusal:
    asked = []

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            self.asked.append(name)
            raise ImportError(f"{name} was asked for")

def outcome(task):
    Refusal.asked, code, shown = [], 0, io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            task()
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    return {"asked": sorted(set(Refusal.asked)), "code": code, "shown": shown.getvalue()}

HEAVY = json.loads(sys.argv[1])
sys.meta_path.insert(0, Refusal())
sys.path.insert(0, "")
tasks = json.loads(sys.argv[2])
print(json.dumps({" ".join(task): outcome(lambda: (
    importlib.import_module(task[0]).main(task[1:]) if task[1:] else importlib.import_module(task[0])
)) for task in tasks}))
"""
COMMANDS = [
    f"pipelines.{path.stem}" for path in sorted((ROOT / "pipelines").glob("*.py")) if path.name != "__init__.py"
] + ["pipelines.report.__main__"]
SUBCOMMANDS = {
    "pipelines.judge": ["compare", "rank", "score", "describe"],
    "pipelines.convert_generator": ["videocrafter2", "t2v_turbo", "t2v_turbo_v2", "t2v_turbo_ms"],
    "pipelines.phase": ["sample", "refresh", "rank", "align", "score"],
    "pipelines.cli": ["run", "phase", "sample", "judge", "report"],
}
LINES = [[name, *inner] for name in COMMANDS for inner in ([], *([sub] for sub in SUBCOMMANDS.get(name, ())))]


def config_modules() -> list[str]:
    """Modules that define a dataclass called ...Config or ...Training."""
    return [
        module_name(path)
        for path in files()
        if any(
            isinstance(node, ast.ClassDef) and node.name.endswith(("Config", "Training"))
            and any("dataclass" in ast.unparse(mark) for mark in node.decorator_list)
            for node in tree(path).body
        )
    ]  # fmt: skip


def outcomes(tasks: list[list[str]]) -> dict[str, dict]:
    """What came of importing a module, or of running its ``main``, in one process that has none of the libraries."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(HEAVY), json.dumps(tasks)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def answers() -> dict[str, dict]:
    """The answers of all commands to ``--help`` and to an option that does not exist."""
    return outcomes([[*line, ending] for line in LINES for ending in ("--help", "--no_such_option=1")])


def test_configs_need_no_library():
    modules = config_modules()
    assert len(modules) > 8
    assert {name: found for name, found in outcomes([[name] for name in modules]).items() if found["code"] != 0} == {}


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_help_needs_no_library(line, answers):
    help_text = answers[" ".join([*line, "--help"])]
    assert help_text["asked"] == [] and help_text["code"] in (0, None), help_text
    assert "usage:" in help_text["shown"].lower() and "--" in help_text["shown"]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_mistake_is_told_without_a_library(line, answers):
    told = answers[" ".join([*line, "--no_such_option=1"])]
    assert told["asked"] == [] and told["code"] == 2, told
    assert "no_such_option" in told["shown"] and len(told["shown"].splitlines()) <= 3

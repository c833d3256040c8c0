"""The walls of the house: who may import whom, how long a file may be, what is written nowhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "videoduet": set(),
    "reward_model": {"videoduet"},
    "generators": {"videoduet"},
    "alignment": {"generators", "videoduet"},
    "shapes_world": {"generators", "reward_model", "videoduet"},
    "evaluation": {"generators", "videoduet"},
    "pipelines": {"videoduet", "reward_model", "generators", "alignment", "shapes_world", "evaluation", "configs"},
    "configs": set(),
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 80


def files(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """The absolute names of modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_down(room):
    paths = files(room)
    assert paths, f"{room}/ is gone"
    for path in paths:
        rooms = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))} & MAY_IMPORT.keys()
        forbidden = rooms - MAY_IMPORT[room] - {room}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}"


def test_every_package_that_ships_has_a_line_in_the_plan():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"benchmarks", "tests"} == MAY_IMPORT.keys()


def test_no_module_imports_itself_by_a_detour():
    modules = {module_name(path): path for path in files(*MAY_IMPORT)}
    edges = {
        name: {target for target in imported(ast.parse(path.read_text())) if target in modules and target != name}
        for name, path in modules.items()
    }
    # A package's __init__ only gathers what its modules make, so importing from the package is no edge to its modules.
    edges = {name: targets for name, targets in edges.items() if modules[name].name != "__init__.py"}
    while edges:
        leaves = [name for name, targets in edges.items() if not targets & edges.keys()]
        assert leaves, f"cycle among {', '.join(sorted(edges))}"
        for name in leaves:
            del edges[name]


def test_files_can_be_read_in_one_sitting():
    lengths = {path: len(path.read_text().splitlines()) for path in files(*MAY_IMPORT, "tests", "benchmarks")}
    long = {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > LONGEST_FILE}
    assert not long


def test_functions_are_short():
    long = []
    for path in files(*MAY_IMPORT):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines")
    assert not long


def test_there_is_no_place_for_things_without_a_place():
    assert [path for path in files(*MAY_IMPORT) if path.stem in ("utils", "helpers", "misc", "common")] == []


def test_nothing_from_strangers_is_executed():
    for path in (*files(*MAY_IMPORT, "benchmarks"), *ROOT.glob("configs/**/*.yaml"), *ROOT.glob("docs/*.md")):
        text = "".join(path.read_text().split()).lower()
        for words in ("trust_remote_code=true", "trust_remote_code:true", "weights_only=false"):
            assert words not in text, f"{path.relative_to(ROOT)} says {words}"

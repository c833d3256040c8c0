"""The walls of the house: who may import whom, on which floor a file stands, how long it may be, what is nowhere."""

import ast
from pathlib import Path

import pytest
from source_tree import MAY_IMPORT, ROOT, Function, files, imported, lazy_names, module_name, tree

FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "alignment": (("preferences",), ("training",)),
    "generators": (("",), ("families", "fast"), ("convert",)),
    "reward_model": (("",), ("motion", "datasets", "families"), ("judging",), ("measuring",), ("training",)),
    "evaluation": (("vbench", "drift"),),
    "pipelines": (("loop",), ("report",), ("",)),
}
"""The floors of a room, lowest first: its packages, '' for the files directly in it. Rooms that are not here have one
floor.
"""
LONGEST = {**dict.fromkeys(MAY_IMPORT, 300), "benchmarks": 300, "tests": 400}
LONGEST_FUNCTION, LONGEST_COMMAND = 60, 150
COMMANDS = [
    *(path for path in sorted((ROOT / "pipelines").glob("*.py")) if path.name != "__init__.py"),
    ROOT / "pipelines" / "report" / "__main__.py",
]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_down(room):
    paths = files(room)
    assert paths, f"{room}/ is gone"
    for path in paths:
        rooms = {name.split(".")[0] for name in imported(tree(path))} & MAY_IMPORT.keys()
        forbidden = rooms - MAY_IMPORT[room] - {room}
        assert not forbidden, f"{named(path)} imports {', '.join(sorted(forbidden))}"


def floor_of(module: str) -> tuple[int, str]:
    """Where a module of a room with floors stands: its number, and what the floor's part is called ('': the root)."""
    room, *rest = module.split(".")
    part = rest[0] if len(rest) > 1 or (ROOT / room / rest[0]).is_dir() else ""
    for number, parts in enumerate(FLOORS[room]):
        if part in parts or (not part and rest[0] in parts):
            return number, part
    raise AssertionError(f"{module} stands on no floor of DESIGN's; {room} has {FLOORS[room]}")


@pytest.mark.parametrize("room", FLOORS)
def test_no_file_reaches_for_a_higher_floor(room):
    modules = {module_name(path) for path in files(room)} - {room}
    facade, above = lazy_names(ROOT / room / "__init__.py"), []
    for path in files(room):
        # The room's own face shows what all floors make.
        if (module := module_name(path)) == room:
            continue
        targets = set(imported(tree(path)))
        targets |= {facade[name] for name in {to.removeprefix(f"{room}.") for to in targets} & facade.keys()}
        above += [f"{named(path)} imports {to}" for to in targets & modules if floor_of(to)[0] > floor_of(module)[0]]
    assert not above, "\n".join(sorted(above))


def test_every_package_that_ships_has_a_line_in_the_plan():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"benchmarks", "tests"} == MAY_IMPORT.keys()


def test_no_module_imports_itself_by_a_detour():
    modules = {module_name(path): path for path in files()}
    edges = {
        name: {target for target in imported(tree(path)) if target in modules and target != name}
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
    lengths = {
        named(path): (len(path.read_text().splitlines()), most)
        for room, most in LONGEST.items()
        for path in files(room)
    }
    assert {name: length for name, (length, most) in lengths.items() if length > most} == {}


def test_functions_are_short():
    lengths = {
        f"{named(path)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in files(*MAY_IMPORT, "benchmarks")
        for node in ast.walk(tree(path))
        if isinstance(node, Function)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_a_command_takes_options_calls_rooms_and_prints(path):
    assert path.exists()
    module = tree(path)
    assert ast.get_docstring(module), "its docstring is its help"
    assert len(path.read_text().splitlines()) <= LONGEST_COMMAND
    mains = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert len(mains) == 1
    assert ast.unparse(mains[0].args) == "arguments: Sequence[str] | None=None"
    assert ast.unparse(module.body[-1]) == "if __name__ == '__main__':\n    main()"
    libraries = {name.split(".")[0] for name in imported(module)}
    assert not libraries & {"math", "statistics", "numpy", "scipy", "csv", "pyarrow"}, "no maths, no file formats"
    text = ast.unparse(module)
    read = text.count("sys.argv[1:] if arguments is None else arguments")
    assert text.count("sys.argv") == read, "one module is one command; it reads its line and looks no further"


def test_there_is_no_place_for_things_without_a_place():
    assert [path for path in files() if path.stem in ("utils", "helpers", "misc", "common")] == []


def test_importing_changes_nothing_for_others():
    """No warnings filter, logging level or environment variable is set by an import."""
    setters = ("warnings.", "logging.", "os.environ", "os.putenv", "torch.set_", "transformers.", "diffusers.")
    found = []
    for path in files():
        for node in tree(path).body:
            changed = node.value if isinstance(node, ast.Expr | ast.Assign) else None
            text = ast.unparse(node) if isinstance(changed, ast.Call) or isinstance(node, ast.Assign) else ""
            if text.startswith(setters) and not text.startswith("logging.getLogger"):
                found.append(f"{named(path)}:{node.lineno} {text}")
    assert not found


def test_nothing_hides_the_builtin_round():
    """It may be a record's field, a config's key or an option, which users write; no parameter and no variable."""
    hidden = []
    for path in files(*MAY_IMPORT, "benchmarks", "tests"):
        for function in (node for node in ast.walk(tree(path)) if isinstance(node, Function | ast.Lambda)):
            for node in ast.walk(function):
                is_argument = isinstance(node, ast.arg) and node.arg == "round"
                is_variable = isinstance(node, ast.Name) and node.id == "round" and isinstance(node.ctx, ast.Store)
                if is_argument or is_variable:
                    hidden.append(f"{named(path)}:{node.lineno}")
    assert not hidden, ", ".join(sorted(set(hidden)))


def test_nothing_from_strangers_is_executed():
    for path in (*files(*MAY_IMPORT, "benchmarks"), *ROOT.glob("configs/**/*.yaml"), *ROOT.glob("docs/*.md")):
        text = "".join(path.read_text().split()).lower()
        for words in ("trust_remote_code=true", "trust_remote_code:true", "weights_only=false"):
            assert words not in text, f"{named(path)} says {words}"

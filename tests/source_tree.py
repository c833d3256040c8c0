"""What the tests of the house look at: its files, what they import and what they say."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "videoduet": set[str](),
    "reward_model": {"videoduet"},
    "generators": {"videoduet"},
    "alignment": {"generators", "videoduet"},
    "shapes_world": {"generators", "reward_model", "videoduet"},
    "evaluation": {"generators", "videoduet"},
    "pipelines": {"videoduet", "reward_model", "generators", "alignment", "shapes_world", "evaluation", "configs"},
    "configs": set[str](),
}
"""The rooms, and the rooms that each may import."""
HEAVY = ("torch", "torchvision", "transformers", "diffusers", "trl", "peft", "accelerate", "datasets", "vllm")
"""Libraries that take seconds to import, and that type checkers know little of."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*rooms: str) -> list[Path]:
    """The Python files of some rooms (none: of all)."""
    return sorted(path for room in rooms or MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    """``a.b`` for a/b.py and for a/b/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(node: ast.AST) -> Iterator[str]:
    """The absolute names of modules, and of what is taken from them, that a piece of code imports, wherever in it."""
    for inner in ast.walk(node):
        yield from _names(inner)


def loaded(path: Path) -> Iterator[str]:
    """The same, for what is imported as soon as the file is: neither in functions nor for type checkers alone."""
    pending: list[ast.AST] = [tree(path)]
    while pending:
        node = pending.pop()
        yield from _names(node)
        if isinstance(node, Function | ast.Lambda):
            continue
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.If) and _is_for_type_checkers(node):
            children = list(node.orelse)
        pending += children


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_for_type_checkers(node: ast.If) -> bool:
    return "TYPE_CHECKING" in ast.unparse(node.test)


def lazy_names(path: Path) -> dict[str, str]:
    """Of a package's ``__init__``: the names that it looks up when they are asked for, and the module each is in."""
    found: dict[str, str] = {}
    for node in tree(path).body:
        if isinstance(node, ast.If) and _is_for_type_checkers(node):
            for inner in node.body:
                if isinstance(inner, ast.ImportFrom) and inner.module:
                    found.update({alias.name: inner.module for alias in inner.names})
    return found


def files_without_torch() -> list[Path]:
    """The files of all rooms that name none of :data:`HEAVY`, not even in a function, nor load a module of the project
    that loads one.
    """
    modules = {module_name(path): path for path in files()}
    heavy = {name for name, path in modules.items() if any(_is_heavy(target) for target in loaded(path))}
    lazily = {name for name, path in modules.items() if any(_is_heavy(target) for target in imported(tree(path)))}
    needs = {name: _modules_needed(path, modules) for name, path in modules.items()}
    while grown := {name for name, targets in needs.items() if name not in heavy and targets & heavy}:
        heavy |= grown
    return [modules[name] for name in sorted(modules.keys() - heavy - lazily)]


def _is_heavy(target: str) -> bool:
    return target.split(".")[0] in HEAVY or target.startswith("safetensors.torch")


def _modules_needed(path: Path, modules: dict[str, Path]) -> set[str]:
    needed: set[str] = set()
    for target in loaded(path):
        parts = target.split(".")
        # Whoever imports a.b.c imports a and a.b as well.
        needed |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)} & modules.keys()
        package, _, name = target.rpartition(".")
        if package in modules and modules[package].name == "__init__.py":
            needed |= {lazy_names(modules[package]).get(name, package)}
    return needed


def strict_files() -> list[str]:
    """What type checking is strict on, as pyproject.toml says it: the ground floor, and every file without torch."""
    others = (str(path.relative_to(ROOT)) for path in files_without_torch())
    return ["videoduet", *(name for name in others if not name.startswith("videoduet/"))]


def write_strict_files() -> None:
    """Put that list into pyproject.toml."""
    file, lines = ROOT / "pyproject.toml", "".join(f'    "{name}",\n' for name in strict_files())
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"^strict = \[\n.*?^\]", f"strict = [\n{lines}]", text, flags=re.M | re.S), encoding="utf-8")


if __name__ == "__main__":
    write_strict_files()

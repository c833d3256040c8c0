"""Every public name says what it is, and every name in docs/papers.md exists."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_tree import MAY_IMPORT, ROOT, Function, files, module_name, tree

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """A module or class with its public classes, functions, methods and properties, by dotted names.

    What is inside a function is its own affair; a setter is documented by its property.
    """
    yield name, node
    for inner in node.body:
        if not isinstance(inner, ast.ClassDef | Function) or inner.name.startswith("_"):
            continue
        marks = {ast.unparse(mark) for mark in inner.decorator_list}
        if marks & {"overload", f"{inner.name}.setter"}:
            continue
        if isinstance(inner, ast.ClassDef):
            yield from public(inner, f"{name}.{inner.name}")
        else:
            yield f"{name}.{inner.name}", inner


def is_explained_elsewhere(path: Path, name: str) -> bool:
    """Whether a method overrides one whose base says what it does."""
    owner, _, method = name.removeprefix(f"{module_name(path)}.").rpartition(".")
    if not owner:
        return False
    found = importlib.import_module(module_name(path))
    for part in owner.split("."):
        found = getattr(found, part)
    bases = inspect.getmro(found)[1:]
    return any(inspect.getdoc(vars(base)[method]) for base in bases if method in vars(base))


@pytest.mark.parametrize("room", [*MAY_IMPORT, "benchmarks"])
def test_every_public_name_says_what_it_is(room):
    silent = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)} {name}"
        for path in files(room)
        for name, node in public(tree(path), module_name(path))
        if not ast.get_docstring(node) and not is_explained_elsewhere(path, name)
    ]
    assert not silent, "\n".join(silent)


def resolved(name: str) -> object:
    """What a dotted name means: a module, or what is in one. Raises where there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(parts[0]):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def names_of_formulas() -> Iterator[tuple[str, str]]:
    """Each row of docs/papers.md's table with the dotted names in its last cell.

    A bare name is in the module of the dotted name before it.
    """
    for line in (ROOT / "docs" / "papers.md").read_text().splitlines():
        if not line.startswith("|") or line.startswith(("| paper", "|---")):
            continue
        cell, module = line.rstrip("| ").rpartition("|")[2], ""
        for name in re.findall(r"`([\w.]+)`", cell):
            if "." in name:
                module = name.rpartition(".")[0]
                yield line, name
            elif module:
                yield line, f"{module}.{name}"


def test_the_functions_of_the_formulas_exist():
    rows = list(names_of_formulas())
    assert len(rows) > 30
    missing = []
    for line, name in rows:
        try:
            resolved(name)
        except (ImportError, AttributeError):
            missing.append(f"{name} in {line}")
    assert not missing, "\n".join(missing)


def test_paths_and_modules_in_documents_exist():
    """A name of ours in backquotes, after ``python -m`` or in an import, and a link to a file."""
    missing = []
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))):
        text = path.read_text()
        modules = re.findall(r"-m ((?:pipelines|benchmarks|shapes_world)\.[\w.]*\w)", text)
        modules += [name for name in re.findall(r"`([a-z_]+(?:\.\w+)+)`", text) if name.split(".")[0] in MAY_IMPORT]
        for module, taken in re.findall(r"^from ([\w.]+) import \(?([\w, ]+)", text, flags=re.M):
            if module.split(".")[0] in MAY_IMPORT:
                modules += [f"{module}.{name.strip()}" for name in taken.split(",") if name.strip()]
        for name in sorted(set(modules)):
            try:
                resolved(name)
            except (ImportError, AttributeError):
                missing.append(f"{path.name}: {name}")
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
        missing += [f"{path.name}: {link}" for link in links if not (path.parent / link).exists()]
    assert not missing, "\n".join(missing)

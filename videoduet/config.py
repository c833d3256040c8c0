"""What every config stands on: the role of a field, bounds, precision, and paths that are found in the package too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, cast

from videoduet.errors import InputError

SCHEMA_VERSION = 1
"""The form of what is kept on disk: configs, records, checkpoints. It grows when an older program could misread it."""

Precision = Literal["float32", "bfloat16", "float16"]

PACKAGE_ROOT = Path(__file__).parent.parent
SHIPPED = ("configs", "shapes_world")
"""The folders of the package that a path may name: recipes, and the embedded default's prompts, data and models."""


def identity(default: Any = MISSING, *, factory: Callable[[], Any] | None = None, before: Any = MISSING) -> Any:
    """A config field that changes results; ``factory`` makes a default that can be changed (a list, a dictionary).

    ``before`` is what a directory had that is older than the field, where that is not its default.
    """
    return _field("identity", default, factory, {} if before is MISSING else {"before": before})


def execution(default: Any = MISSING, *, factory: Callable[[], Any] | None = None) -> Any:
    """A config field that changes speed, memory or safety alone, and may differ between resumptions."""
    return _field("execution", default, factory)


def _field(role: str, default: Any, factory: Callable[[], Any] | None, more: Mapping[str, Any] | None = None) -> Any:
    metadata = {"role": role, **(more or {})}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def refuse_newer(version: int, what: str) -> None:
    """Raises InputError where ``what`` was written in a form that this program does not know yet."""
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{what} was written by a newer VideoDuet (schema version {version}, and this one knows {SCHEMA_VERSION}); "
            "upgrade VideoDuet (pip install -U videoduet)."
        )


def at_least(low: float, **values: float | None) -> None:
    """Raises InputError naming the first of ``values`` that is below ``low``; None is no value."""
    for name, value in values.items():
        if value is not None and value < low:
            raise InputError(f"{name} is {value}; give {low} or more.", exit_code=2)


def within(low: float, high: float, **values: float | None) -> None:
    """Raises InputError naming the first of ``values`` that is outside [``low``, ``high``]; None is no value."""
    for name, value in values.items():
        if value is not None and not low <= value <= high:
            raise InputError(f"{name} is {value}; give a number in [{low:g}, {high:g}].", exit_code=2)


def required(config: Any, *names: str) -> None:
    """Raises InputError for the first of the fields ``names`` that is empty."""
    for name in names:
        if not getattr(config, name):
            raise InputError(f"No {name} is named; give --{name}.", exit_code=2)


def resolve(path: str) -> str:
    """``path``, absolute, where it exists; else the file of that name that the package ships (below :data:`SHIPPED`);
    else as given: a hub id.

    Absolute, since adapters name their base by it and are loaded from elsewhere.
    """
    candidates = [Path(path)]
    if Path(path).parts[:1] and Path(path).parts[0] in SHIPPED:
        candidates.append(PACKAGE_ROOT / path)
    for candidate in candidates:
        if candidate.exists():
            return str(candidate.absolute())
    return path


def to_dict(config: Any) -> Any:
    """A dataclass as plain dictionaries and lists, for YAML and JSON."""
    if is_dataclass(config):
        return {field.name: to_dict(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, list | tuple):
        return [to_dict(item) for item in cast("Sequence[Any]", config)]
    if isinstance(config, dict):
        return {name: to_dict(item) for name, item in cast("dict[Any, Any]", config).items()}
    return str(config) if isinstance(config, Path) else config


def identity_fields(config: Any) -> dict[str, Any]:
    """Dotted names and plain values of the fields that change results: all but those made by :func:`execution`."""
    return {name: value for name, value, _ in _walk(config, "")}


def identity_defaults(config: Any) -> dict[str, Any]:
    """Dotted names and plain defaults of the same fields (MISSING where a field has none)."""
    return {name: default for name, _, default in _walk(config, "")}


def _walk(config: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for item in fields(config):
        value = getattr(config, item.name)
        if item.metadata.get("role") == "execution":
            continue
        if is_dataclass(value):
            yield from _walk(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", to_dict(value), to_dict(_default(item))


def _default(item: Field[Any]) -> Any:
    if "before" in item.metadata:
        return item.metadata["before"]
    return item.default if item.default_factory is MISSING else item.default_factory()

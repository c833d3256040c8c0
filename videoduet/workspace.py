"""A directory that adopts a config: what lies in it answers one question, and the same question goes on with it.

Work in it writes its files atomically and, last, ``done.json``.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from videoduet.config import SCHEMA_VERSION, identity_defaults, identity_fields, refuse_newer, to_dict
from videoduet.errors import InputError
from videoduet.folders import files_below
from videoduet.store import content_hash, read_json, write_bytes, write_json

HASHED = (".parquet", ".safetensors")
CONFIG = "config.yaml"


class Workspace:
    """Paths and state of one directory. ``root`` is made where it is missing; InputError where that is not allowed."""

    def __init__(self, root: str | Path, option: str = "--output"):
        """``option`` is what the user names the directory by."""
        self.root, self.option = Path(root).absolute(), option
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise InputError(f"Directory {root} cannot be made ({error.strerror}); choose another {option}.") from error
        if not os.access(self.root, os.W_OK):
            raise InputError(f"Directory {root} cannot be written to; choose another {option} or mend its permissions.")

    def is_done(self, folder: Path | None = None) -> bool:
        """Whether the work in ``folder`` (None: in the whole directory) was finished."""
        return ((folder or self.root) / "done.json").exists()

    def finish(self, folder: Path | None = None, **counts: Any) -> None:
        """Mark ``folder`` done, with counts and the content hashes of its records and tensors."""
        folder = folder or self.root
        self.sweep(folder)
        hashes = {
            str(path.relative_to(folder)): content_hash(path) for path in files_below(folder) if path.suffix in HASHED
        }
        write_json(folder / "done.json", {"counts": counts, "files": hashes})

    def sweep(self, folder: Path) -> None:
        """Remove what killed writers left half-written; to be called when nobody writes in ``folder`` any more."""
        # Not through links: what lies elsewhere may be somebody else's, and leftovers harm nobody.
        for path in list(folder.rglob(".*.tmp*")):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    def quarantined(self) -> set[str]:
        """Absolute paths of files that could not be used."""
        file = self.root / "quarantine.json"
        return {str(self.root / row["path"]) for row in read_json(file)} if file.exists() else set()

    def quarantine(self, path: str, reason: str) -> None:
        """List a file that cannot be used, and why; work goes on without it."""
        file, inside = self.root / "quarantine.json", os.path.relpath(path, self.root)
        rows: list[dict[str, str]] = read_json(file) if file.exists() else []
        if inside not in {row["path"] for row in rows}:
            write_json(file, [*rows, {"path": inside, "reason": reason}])

    def kept(self) -> dict[str, Any] | None:
        """The config that was adopted, as plain data; None where there is none yet.

        Raises InputError where a newer program wrote it.
        """
        file = self.root / CONFIG
        if not file.exists():
            return None
        kept = yaml.safe_load(file.read_text(encoding="utf-8"))
        refuse_newer(kept.get("schema_version", 0), f"{file}")
        return kept

    def changed(self, config: Any) -> dict[str, tuple[Any, Any]]:
        """The identity fields in which ``config`` differs from the one adopted: dotted names with (kept, asked).

        A field that the kept one does not have, since it is older, had its default.
        """
        if (kept := self.kept()) is None:
            return {}
        defaults = identity_defaults(config)
        before = {name: _lookup(kept, name, default) for name, default in defaults.items()}
        return {name: (before[name], value) for name, value in identity_fields(config).items() if before[name] != value}

    def check(self, config: Any, made: str) -> None:
        """Raises InputError where what lies here answers another question; ``made`` is what was done ('drawn')."""
        for name in self.changed(config):
            raise InputError(f"{self.root} was {made} with another {name}; give another {self.option}.")

    def adopt(self, config: Any, made: str, *, again: bool = False, without: Sequence[str] = ()) -> None:
        """Keep ``config`` (a dataclass) as this directory's. Raises InputError as :meth:`check` does.

        ``again`` replaces what was adopted, unchecked: nothing that was made by it is left. Sections ``without`` which
        the directory was made are not written.
        """
        if not again:
            self.check(config, made)
        rows = {name: value for name, value in to_dict(config).items() if name not in without}
        kept = {"schema_version": SCHEMA_VERSION, **rows}
        write_bytes(self.root / CONFIG, yaml.safe_dump(kept, sort_keys=False).encode())


def _lookup(tree: Any, dotted: str, default: Any) -> Any:
    for name in dotted.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return default
        tree = cast("dict[str, Any]", tree)[name]
    return tree

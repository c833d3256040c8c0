"""Directories of answers that were begun before they adopted a config: what they hold answers to is taken over."""

import yaml

from videoduet.store import read_json, write_bytes
from videoduet.workspace import CONFIG, Workspace


def adopt_older(workspace: Workspace) -> None:
    """Write what older programs kept in asked.json and judge.json as the adopted config, where there is none yet."""
    asked, judge = (workspace.root / name for name in ("asked.json", "judge.json"))
    if not asked.exists() or (workspace.root / CONFIG).exists():
        return
    kept = {"schema_version": 0, **read_json(asked)} | ({"judge_id": read_json(judge)} if judge.exists() else {})
    write_bytes(workspace.root / CONFIG, yaml.safe_dump(kept, sort_keys=False).encode())

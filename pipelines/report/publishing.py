"""Publish what a run or a command wrote: with a card that says what it is, and without a path of this machine."""

import json
from pathlib import Path

from pipelines.report.cards import PROMPT, card_of, write_cards, write_export_card
from pipelines.report.recorded import RecordedRun, mapping
from pipelines.report.snippets import Exported, base_name
from videoduet.errors import InputError
from videoduet.hub import Kind, publish
from videoduet.store import read_json, write_bytes

PLACEHOLDER = "[More Information Needed]"
"""What the card that libraries write in passing is full of."""
ADAPTER = "adapter_config.json"
SOURCES = ("base_model_name_or_path", "_name_or_path")
"""Keys under which libraries write where a model was loaded from."""


def kind_of(folder: Path) -> Kind:
    """What ``folder`` is on the hub. Raises InputError where it is nothing that this project wrote, so that a slip of
    the hand publishes nothing.
    """
    if (folder / "videos.parquet").is_file() and (folder / "comparisons.parquet").is_file():
        return "dataset"
    if any((folder / name).is_file() for name in (ADAPTER, "model_index.json", "config.json")) or (
        (folder / "README.md").is_file() and any(folder.glob("*.safetensors"))
    ):
        return "model"
    raise InputError(
        f"{folder} is nothing to publish: give a folder of a run's final/, or one that pipelines.export or "
        "pipelines.share wrote.",
        exit_code=2,
    )


def carded(folder: Path) -> None:
    """Give ``folder`` a card where it has none, or a form to be filled in; those of a run are made anew."""
    root, card = folder.parent.parent, folder / "README.md"
    if folder.parent.name == "final" and (root / "config.yaml").is_file():
        write_cards(root)
    if card.is_file() and PLACEHOLDER not in card.read_text(encoding="utf-8", errors="replace"):
        return
    adapter = folder / ADAPTER
    if not adapter.is_file():
        raise InputError(f"{folder} has no README.md, its card; write what it is, and publish it again.")
    config = read_json(adapter)
    if (folder / PROMPT).is_file() or config.get("task_type") == "CAUSAL_LM":
        run = RecordedRun(folder, adapters={"judge": config})
        write_bytes(card, card_of(run, Exported("judge"), asked=(folder / PROMPT).is_file()))
    else:
        write_export_card(folder, folder, "peft", (), "")


def without_paths(folder: Path) -> dict[str, bytes]:
    """Those JSON files of ``folder`` that say from where on this disk something came, with its name instead."""
    changed: dict[str, bytes] = {}
    for file in sorted(folder.rglob("*.json")):
        value = mapping(read_json(file))
        names = {key: base_name(str(value[key]))[0] for key in SOURCES if value.get(key)}
        if names:
            changed[file.relative_to(folder).as_posix()] = json.dumps({**value, **names}, indent=2).encode()
    return changed


def publish_export(folder: str | Path, repository: str, *, public: bool = False) -> str:
    """The address at which ``folder``, an export or a shared data set, is published as ``repository``.

    Whatever in it names the model that it came from calls that by its hub id, or by its last name.
    """
    folder = Path(folder).absolute()
    kind = kind_of(folder)
    if kind == "model":
        carded(folder)
    return publish(folder, repository, kind=kind, public=public, changed=without_paths(folder))


def publish_final(run_dir: str | Path, repository: str, *, public: bool = False) -> list[str]:
    """The addresses of a run's exports, each published under ``repository`` and its own name:
    ``OWNER/NAME-generator``, ``OWNER/NAME-judge`` and, where they were merged, ``OWNER/NAME-merged-generator``.
    """
    folders = sorted(path for path in (Path(run_dir) / "final").iterdir() if path.is_dir())
    return [publish_export(each, f"{repository}-{each.name.replace('_', '-')}", public=public) for each in folders]

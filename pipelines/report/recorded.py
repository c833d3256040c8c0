"""What a run directory says, read for the report.

A report may be wanted while a run is under way or after it was killed, so every file may be absent, and one that cannot
be read costs its own section, never the page: it is listed in ``RecordedRun.problems``.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, cast

import pyarrow as pa
import yaml

from pipelines.loop import phases as loop
from videoduet.config import refuse_newer
from videoduet.errors import InputError
from videoduet.records import Prompt
from videoduet.store import read_json, read_records
from videoduet.tables import split_lines

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
JUDGES = {
    "second_judge": "second judge (never used for labels)",
    "frozen_judge": "frozen judge D_0",
    "judge": "the loop's own judge",
}


PHASES = tuple(phase for phase in loop.PHASES if phase.first_round is not None)
"""The phases of a round, in their order."""


@dataclass
class RecordedRound:
    """One round: each phase's summary by name (empty where it has not finished), and the training log, one row a
    step.
    """

    number: int
    phases: dict[str, dict[str, Any]]
    log: list[dict[str, Any]]


@dataclass
class RecordedRun:
    """All that the report needs, except the videos and the judge's answers, which are streamed from ``directory``."""

    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    training_prompts: int = 0
    rounds: list[RecordedRound] = field(default_factory=list)
    score: dict[str, Any] = field(default_factory=dict)
    adapters: dict[str, dict[str, Any]] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(self, relative: str) -> dict[str, Any]:
        """A JSON or YAML mapping, or {} where there is none or it is damaged (which is noted)."""
        path = self.directory / relative
        if not path.is_file():
            return {}
        try:
            value = yaml.safe_load(path.read_text("utf-8")) if path.suffix == ".yaml" else read_json(path)
            if is_mapping(value):
                return value
            raise ValueError("it does not hold named values")
        except (OSError, ValueError, yaml.YAMLError) as error:
            self.problems.append(f"{relative} could not be read ({_one_line(error)}).")
            return {}

    def rows(self, relative: str) -> list[dict[str, Any]]:
        """The rows of a JSON list or JSON-lines file; a line cut short by a kill is left out."""
        path = self.directory / relative
        if not path.is_file():
            return []
        rows: list[Any] = []
        text = path.read_text("utf-8", errors="replace")
        for part in [text] if path.suffix == ".json" else split_lines(text):
            try:
                value = json.loads(part)
            except ValueError:
                continue
            rows += value if isinstance(value, list) else [value]
        return [row for row in rows if is_mapping(row)]

    def records(self, record_type: type[Record], pattern: str) -> Iterator[Record]:
        """Records of all matching shards, one shard in memory at a time; a damaged shard is noted and left out."""
        for path in sorted(self.directory.glob(pattern)):
            try:
                yield from read_records(record_type, path)
            except (InputError, OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
                self.problems.append(f"{path.relative_to(self.directory)} could not be read ({_one_line(error)}).")

    def prompt_text(self, prompt_id: str) -> str:
        """The text of a prompt, or words that say that it is not known."""
        return self.prompts.get(prompt_id, f"(prompt {prompt_id}, whose text is not in this run directory)")

    def setting(self, key: str) -> Any:
        """A dotted key of the config, None where it does not say."""
        return dict(flatten(self.config)).get(key)

    @property
    def planned_rounds(self) -> int:
        """Rounds that the config asks for, or that are there where it does not say."""
        asked = number(self.setting("rounds"))
        return len(self.rounds) if self.stopped else max(int(asked or 0), len(self.rounds))

    @property
    def stopped(self) -> bool:
        """Whether no round follows the last one, since it is surely worse than what was before it."""
        bets = mapping(self.rounds[-1].phases["measure"].get("bets")) if self.rounds else {}
        return self.setting("score.stop") == "when_worse" and any(mapping(bet).get("worse") for bet in bets.values())

    @property
    def versions(self) -> list[str]:
        """Generator versions that were scored, oldest first."""
        named = {name for judge in JUDGES for name in win_rates(self, judge)}
        kept = self.score.get("versions")
        listed = cast("list[object]", kept) if isinstance(kept, list) else []
        return sorted(named | set(map(str, listed)), key=version_number)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def number(value: Any) -> float | None:
    """``value`` as a float, None where it is not a finite number: a summary may hold null, text or NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def version_number(version: str) -> tuple[int, str]:
    """Sort key that puts G_10 after G_9."""
    digits = re.search(r"\d+$", version)
    return (int(digits.group()) if digits else -1, version)


def flatten(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as (dotted key, value)."""
    for key, item in value.items():
        if is_mapping(item):
            yield from flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def is_mapping(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether ``value``, as a file holds it, is a mapping."""
    return isinstance(value, dict)


def mapping(value: Any) -> dict[str, Any]:
    """``value`` where it is a mapping, else {}."""
    return value if is_mapping(value) else {}


def win_rates(run: RecordedRun, judge: str) -> dict[str, dict[str, Any]]:
    """By version: that judge's win rate over the base with its interval, as a round measured it or the score has it;
    versions without a number are left out.
    """
    measured = [item.phases.get("measure", {}) for item in run.rounds]
    rates: dict[str, Any] = {str(known.get("version")): mapping(known.get("win_rate")).get(judge) for known in measured}
    rates |= mapping(mapping(run.score.get("win_rate")).get(judge))
    return {version: rate for version, rate in rates.items() if number(mapping(rate).get("rate")) is not None}


def loading_of(run: RecordedRun, part: str, default_class: str) -> dict[str, str | bool]:
    """What the loading snippet of final/``part`` names: base, revision, and the class that loads it."""
    config = run.adapters[part]
    mapped = mapping(config.get("auto_mapping"))
    named, library = str(mapped.get("base_model_class")), str(mapped.get("parent_library")).split(".")[0]
    # The snippet is there to be pasted and run: only a plain name of a library it imports from may enter it as code.
    known = mapped and named.isidentifier() and library in ("diffusers", "transformers")
    model_class = named if known else default_class
    subfolder = "transformer" if "Transformer" in model_class else "unet"
    revision = config.get("revision")
    return {
        "exists": bool(config),
        "base": json.dumps(str(config.get("base_model_name_or_path") or ""), ensure_ascii=False),
        "revision": f", revision={json.dumps(str(revision))}" if revision else "",
        "model_class": model_class,
        "subfolder": subfolder,
    }


def load_run(directory: Path) -> RecordedRun:
    """Everything small that a run directory holds. Raises InputError where it is none, or of a newer
    program.
    """
    if not directory.is_dir():
        raise InputError(f"Run directory {directory} does not exist; name one that united_finetune wrote.", exit_code=2)
    folders = sorted(path for path in directory.glob("round_*") if path.name[6:].isdigit() and path.is_dir())
    if not folders and not any((directory / name).exists() for name in ("config.yaml", "score", "final")):
        raise InputError(
            f"Directory {directory} holds no run (no config.yaml, no round_00); name one that united_finetune wrote.",
            exit_code=2,
        )
    run = RecordedRun(directory)
    run.config = run.read("config.yaml")
    refuse_newer(int(number(run.config.get("schema_version")) or 0), f"Run {directory}")
    run.environment = run.read("environment.json")
    for pattern in ("prompts.parquet", "score/prompts.parquet"):
        found = {prompt.id: prompt.text for prompt in run.records(Prompt, pattern)}
        run.training_prompts = run.training_prompts or len(found)
        run.prompts.update(found)
    run.rounds = [_load_round(run, folder) for folder in folders]
    run.score = run.read("score/summary.json")
    run.adapters = {part: run.read(f"final/{part}/adapter_config.json") for part in ("generator", "judge")}
    run.choice = run.read("final/choice.json")
    run.quarantined = run.rows("quarantine.json") + run.rows("quarantine.jsonl")
    return run


def _load_round(run: RecordedRun, folder: Path) -> RecordedRound:
    """Each phase's summary, over the counts in its ``done.json``; what align left out of it comes from its log."""
    phases: dict[str, dict[str, Any]] = {}
    for phase in (phase.name for phase in PHASES):
        done = run.read(f"{folder.name}/{phase}/done.json")
        summary = run.read(f"{folder.name}/{phase}/summary.json")
        timing = run.read(f"{folder.name}/{phase}/timing.json")
        phases[phase] = {"done": True, **mapping(done.get("counts")), **summary, **timing} if done or summary else {}
    rows = run.rows(f"{folder.name}/align/log.jsonl")
    # A resumed run may have logged a step twice: the later row is the one that counted.
    steps = {row["step"]: row for row in rows if number(row.get("step")) is not None}
    log = [steps[step] for step in sorted(steps)]
    for key in ("loss", "implicit_accuracy", "chosen_error_delta", "rejected_error_delta"):
        # One step's figure is noise: the mean of the last tenth says where the training ended.
        last = [row[key] for row in log[-max(1, len(log) // 10) :] if number(row.get(key)) is not None]
        if last and phases["align"]:
            phases["align"].setdefault(key, sum(last) / len(last))
    return RecordedRound(int(folder.name[6:]), phases, log)

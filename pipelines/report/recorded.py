"""What a run directory says, read for the report.

A report may be wanted while a run is under way or after it was killed, so every file may be absent, and one that cannot
be read costs its own section, never the page: it is listed in ``Run.problems``.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import yaml

from videoduet.errors import InputError
from videoduet.records import Comparison, Prompt, Sample, SamplerSettings
from videoduet.store import read_json, read_records

Record = TypeVar("Record")
JUDGES = {
    "second_judge": "second judge (never used for labels)",
    "frozen_judge": "frozen judge D_0",
    "judge": "the loop's own judge",
}


@dataclass
class Round:
    """One round: the phases' summaries (empty where a phase has not finished) and the training log, one row a step."""

    number: int
    sample: dict[str, Any]
    refresh: dict[str, Any]
    rank: dict[str, Any]
    align: dict[str, Any]
    log: list[dict[str, Any]]


@dataclass
class Run:
    """All that the report needs, except the videos and the judge's answers, which are streamed from ``directory``."""

    directory: Path
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    training_prompts: int = 0
    rounds: list[Round] = field(default_factory=list)
    score: dict[str, Any] = field(default_factory=dict)
    adapters: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(self, relative: str) -> dict[str, Any]:
        """A JSON or YAML mapping, or {} where there is none or it is damaged (which is noted)."""
        path = self.directory / relative
        if not path.is_file():
            return {}
        try:
            value = yaml.safe_load(path.read_text("utf-8")) if path.suffix == ".yaml" else read_json(path)
            if isinstance(value, dict):
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
        rows = []
        text = path.read_text("utf-8", errors="replace")
        for part in [text] if path.suffix == ".json" else text.splitlines():
            try:
                value = json.loads(part)
            except ValueError:
                continue
            rows += value if isinstance(value, list) else [value]
        return [row for row in rows if isinstance(row, dict)]

    def records(self, record_type: type[Record], pattern: str) -> Iterator[Record]:
        """Records of all matching shards, one shard in memory at a time; a damaged shard is noted and left out."""
        for path in sorted(self.directory.glob(pattern)):
            try:
                yield from read_records(record_type, path)
            except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
                self.problems.append(f"{path.relative_to(self.directory)} could not be read ({_one_line(error)}).")

    def prompt_text(self, prompt_id: str) -> str:
        return self.prompts.get(prompt_id, f"(prompt {prompt_id}, whose text is not in this run directory)")

    def setting(self, key: str) -> Any:
        """A dotted key of the config, None where it does not say."""
        return dict(flatten(self.config)).get(key)

    @property
    def planned_rounds(self) -> int:
        """Rounds that the config asks for, or that are there where it does not say."""
        asked = number(self.setting("rounds"))
        return max(int(asked or 0), len(self.rounds))

    @property
    def versions(self) -> list[str]:
        """Generator versions that were scored, oldest first."""
        named = {name for judge in JUDGES for name in win_rates(self, judge)}
        listed = self.score.get("versions")
        return sorted(named | set(map(str, listed if isinstance(listed, list) else [])), key=version_number)


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
        if isinstance(item, dict):
            yield from flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def mapping(value: Any) -> dict[str, Any]:
    """``value`` where it is a mapping, else {}."""
    return value if isinstance(value, dict) else {}


def win_rates(run: Run, judge: str) -> dict[str, dict[str, Any]]:
    """By version: that judge's win rate over the base with its interval; versions without a number are left out."""
    rates = mapping(mapping(run.score.get("win_rate")).get(judge))
    return {version: rate for version, rate in rates.items() if number(mapping(rate).get("rate")) is not None}


def load_run(directory: Path) -> Run:
    """Read everything small in a run directory. Raises InputError where it is none."""
    if not directory.is_dir():
        raise InputError(f"Run directory {directory} does not exist; name one that united_finetune wrote.", exit_code=2)
    folders = sorted(path for path in directory.glob("round_*") if path.name[6:].isdigit() and path.is_dir())
    if not folders and not any((directory / name).exists() for name in ("config.yaml", "score", "final")):
        raise InputError(
            f"Directory {directory} holds no run (no config.yaml, no round_00); name one that united_finetune wrote.",
            exit_code=2,
        )
    run = Run(directory)
    run.config = run.read("config.yaml")
    run.environment = run.read("environment.json")
    for pattern in ("prompts.parquet", "score/prompts.parquet"):
        found = {prompt.id: prompt.text for prompt in run.records(Prompt, pattern)}
        run.training_prompts = run.training_prompts or len(found)
        run.prompts.update(found)
    run.rounds = [_load_round(run, folder) for folder in folders]
    run.score = run.read("score/summary.json")
    run.adapters = {part: run.read(f"final/{part}/adapter_config.json") for part in ("generator", "judge")}
    run.quarantined = run.rows("quarantine.json") + run.rows("quarantine.jsonl")
    return run


def _load_round(run: Run, folder: Path) -> Round:
    """Each phase's summary, over the counts in its ``done.json``; what align left out of it comes from its log."""
    phases = {}
    for phase in ("sample", "refresh", "rank", "align"):
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
    return Round(int(folder.name[6:]), log=log, **phases)


def missing(run: Run) -> list[str]:
    """What a finished run would hold and this one does not, in plain words."""
    sentences = []
    present = {item.number: item for item in run.rounds}
    for index in range(run.planned_rounds):
        if index not in present:
            last = run.planned_rounds - 1
            rounds = f"Rounds {index} to {last} have" if last > index else f"Round {index} has"
            sentences.append(f"{rounds} not begun.")
            break
        phases = ["sample", *(["refresh"] if index else []), "rank", "align"]
        absent = [phase for phase in phases if not getattr(present[index], phase)]
        if absent:
            sentences.append(f"Round {index} has not finished: {', '.join(absent)} left no summary.")
    if not run.score:
        sentences.append("The generators have not been scored yet, so there is no win rate.")
    if not run.adapters["generator"]:
        sentences.append("The aligned generator (final/generator) has not been written yet.")
    return sentences


def verdict(run: Run) -> tuple[str, str]:
    """One sentence on whether the last generator beats the base, and its tone: good, bad or open."""
    for judge, name in JUDGES.items():
        rates = win_rates(run, judge)
        if not rates:
            continue
        version = max(rates, key=version_number)
        rate, low, high = (number(rates[version].get(key)) for key in ("rate", "low", "high"))
        total, decided = (number(rates[version].get(key)) for key in ("total", "decided"))
        cases = f"{total:.0f} held-out cases" if total is not None else "held-out cases"
        by = f"By the {name.removeprefix('the ').split(' (')[0]}"
        text = f"{by}, {version} beats the base in {100 * rate:.0f}\u00a0% of {cases}"
        if low is not None and high is not None:
            text += f" ({100 * low:.0f}–{100 * high:.0f})"
        if decided is not None and total is not None:
            text += f"; {decided:.0f} of them were decided in both orders"
        text += "." if judge != "judge" else ". This judge gave the labels, so its praise proves little."
        if low is None or high is None:
            return f"{text} No interval is known.", "open"
        if low > 0.5:
            return text, "good" if judge != "judge" else "open"
        if high < 0.5:
            return f"{text} The aligned generator is worse.", "bad"
        return f"{text} The interval includes 50 %: this may be chance.", "open"
    if run.rounds and all(item.align.get("status") == "skipped" for item in run.rounds):
        return "No round trained the generator: see the warnings.", "bad"
    return "No verdict yet: no judge has compared the aligned generator with the base.", "open"


def _round_notes(item: Round) -> list[tuple[str, str]]:
    """Warnings and notes of one round, as (level, sentence)."""
    notes = []
    skipped = item.rank.get("skipped")
    reason = item.align.get("reason") or skipped
    if item.align.get("status") == "skipped" or (skipped and not item.align):
        notes.append(("warning", f"align was skipped: {reason or 'no reason was recorded'}"))
    elif skipped:
        notes.append(("warning", f"rank made no pairs: {skipped}"))
    status = item.refresh.get("status")
    if status == "kept_previous":
        gate = item.refresh.get("reason") or "the gate refused the refreshed one"
        notes.append(("warning", f"refresh kept the previous judge: {gate}"))
    elif status == "off":
        notes.append(("note", f"refresh was off: {item.refresh.get('reason') or 'no reason was recorded'}"))
    first, abstention = number(item.rank.get("first_position_rate")), number(item.rank.get("abstention"))
    if first is not None and not 0.4 <= first <= 0.6:
        side = "first" if first > 0.5 else "second"
        share = f"{100 * first:.0f} % of wins went to the first"
        notes.append(("warning", f"the judge leans to the video shown {side} ({share})."))
    if abstention is not None and abstention > 0.4:
        notes.append(("warning", f"the judge abstained on {100 * abstention:.0f} % of comparisons."))
    notes += [("warning", str(text)) for text in item.align.get("notes") or []]
    return notes + [("note", str(text)) for text in item.align.get("left_out") or []]


def notes(run: Run) -> list[tuple[str, str]]:
    """Everything a reader should know before believing the figures: (level, sentence), warnings first."""
    found = [(level, f"Round {item.number}: {text}") for item in run.rounds for level, text in _round_notes(item)]
    own, second = (win_rates(run, judge) for judge in ("judge", "second_judge"))
    for version in sorted(own.keys() & second.keys(), key=version_number):
        low, high = number(own[version].get("low")), number(second[version].get("high"))
        if low is not None and high is not None and low > high:
            text = f"The loop's own judge likes {version} far better than the second judge does"
            found.append(("warning", f"{text}: the generator may have learnt that judge's taste."))
    if alarm := mapping(run.score.get("vbench")).get("alarm"):
        found.append(("warning", str(alarm)))
    for row in run.quarantined[:20]:
        found.append(("warning", f"Left out as unreadable: {row.get('path')} ({row.get('reason')})"))
    if len(run.quarantined) > 20:
        found.append(("warning", f"… and {len(run.quarantined) - 20} more files, listed in quarantine.json."))
    found += [("warning", text) for text in run.problems]
    return sorted(found, key=lambda note: note[0] != "warning")


def facts(run: Run, settings: SamplerSettings | None) -> list[tuple[str, str]]:
    """The config in plain words; what the run does not say is left out."""
    facts = [
        ("Seed", run.setting("seed")),
        ("Rounds", run.planned_rounds or None),
        ("Training prompts", run.setting("prompts.limit") or run.training_prompts or None),
        ("Videos a prompt", run.setting("generator.videos_per_prompt")),
        ("Generator", run.setting("generator.path") or run.adapters["generator"].get("base_model_name_or_path")),
        ("Judge", run.setting("judge.path") or run.setting("judge.factory")),
        ("Second judge", run.setting("judge.second_path")),
    ]
    if settings:
        size = f"{settings.num_frames} frames of {settings.width} × {settings.height} pixels at {settings.fps:g} fps"
        facts.append(("Each video", f"{size}, {settings.steps} sampling steps, guidance {settings.guidance_scale:g}"))
    for phase in ("sample", "refresh", "rank", "align"):
        spent = [number(getattr(item, phase).get("seconds")) for item in run.rounds]
        if any(seconds is not None for seconds in spent):
            facts.append((f"Time in {phase}", _duration(sum(seconds or 0 for seconds in spent))))
    return [(name, str(value)) for name, value in facts if value is not None]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def samples_to_show(run: Run) -> tuple[list[Sample], bool]:
    """Held-out samples, or those of the rounds where scoring has drawn none; and whether they are held out."""
    held_out = list(run.records(Sample, "score/samples_*.parquet"))
    if held_out:
        return held_out, True
    return [sample for sample in run.records(Sample, "round_*/sample/samples_*.parquet") if sample.index == 0], False


def example_comparison(run: Run, item: Round) -> Comparison | None:
    """The round's first decided comparison (the first of any kind where none was decided)."""
    first = None
    for comparison in run.records(Comparison, f"round_{item.number:02d}/rank/comparisons_*.parquet"):
        if comparison.status == "decided":
            return comparison
        first = first or comparison
    return first

"""What the report says of a run, in plain words: the verdict, warnings and notes, what is missing, what was run."""

from typing import Any

from pipelines.loop.phases import round_phases
from pipelines.report.recorded import (
    JUDGES,
    PHASES,
    RecordedRound,
    RecordedRun,
    mapping,
    number,
    version_number,
    win_rates,
)
from videoduet.records import Comparison, Sample, SamplerSettings


def missing(run: RecordedRun) -> list[str]:
    """What a finished run would hold and this one does not, in plain words."""
    sentences: list[str] = []
    present = {item.number: item for item in run.rounds}
    for index in range(run.planned_rounds):
        if index not in present:
            last = run.planned_rounds - 1
            rounds = f"Rounds {index} to {last} have" if last > index else f"Round {index} has"
            sentences.append(f"{rounds} not begun.")
            break
        phases = present[index].phases
        absent = [phase.name for phase in round_phases(index) if not phases[phase.name]]
        # There is nothing to measure before a generator is trained, nor once the score has it all.
        if "measure" in absent and (run.score or "align" in absent):
            absent.remove("measure")
        if not run.setting("audit.clips"):
            absent = [name for name in absent if name != "audit"]
        if absent:
            sentences.append(f"Round {index} has not finished: {', '.join(absent)} left no summary.")
    if not run.score:
        known = any(win_rates(run, judge) for judge in JUDGES)
        so_far = ": win rates are those of the rounds so far." if known else ", so there is no win rate."
        sentences.append(f"The generators have not been scored yet{so_far}")
    if not run.adapters["generator"]:
        sentences.append("The aligned generator (final/generator) has not been written yet.")
    return sentences


def verdict(run: RecordedRun) -> tuple[str, str]:
    """One sentence on whether the generator that is kept, or the last, beats the base, and its tone: good, bad or
    open.
    """
    if run.choice.get("version") == "G_0":
        return str(run.choice.get("reason")), "bad"
    reported = mapping(run.choice.get("reported"))
    if number(reported.get("rate")) is not None:
        return _beats("second_judge", str(run.choice.get("version")), reported, "held-out cases that did not choose it")
    for judge in JUDGES:
        if rates := win_rates(run, judge):
            version = max(rates, key=version_number)
            return _beats(judge, version, rates[version], "held-out cases")
    if run.rounds and all(item.phases["align"].get("status") == "skipped" for item in run.rounds):
        return "No round trained the generator: see the warnings.", "bad"
    return "No verdict yet: no judge has compared the aligned generator with the base.", "open"


def _beats(judge: str, version: str, found: dict[str, Any], of: str) -> tuple[str, str]:
    """The sentence, and its tone, of a judge's win rate of a version over the base."""
    rate = float(found["rate"])
    low, high, total, decided = (number(found.get(key)) for key in ("low", "high", "total", "decided"))
    cases = f"{total:.0f} {of}" if total is not None else of
    by = f"By the {JUDGES[judge].removeprefix('the ').split(' (')[0]}"
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


def _round_notes(item: RecordedRound) -> list[tuple[str, str]]:
    """Warnings and notes of one round, as (level, sentence)."""
    notes: list[tuple[str, str]] = []
    sample, refresh, rank, align = (item.phases[name] for name in ("sample", "refresh", "rank", "align"))
    notes += [("warning", f"sample: {text}") for text in sample.get("notes") or ()]
    skipped = rank.get("skipped")
    reason = align.get("reason") or skipped
    if align.get("status") == "skipped" or (skipped and not align):
        notes.append(("warning", f"align was skipped: {reason or 'no reason was recorded'}"))
    elif skipped:
        notes.append(("warning", f"rank made no pairs: {skipped}"))
    status = refresh.get("status")
    if status == "kept_previous":
        gate = refresh.get("reason") or "the gate refused the refreshed one"
        notes.append(("warning", f"refresh kept the previous judge: {gate}"))
    elif status == "off":
        notes.append(("note", f"refresh was off: {refresh.get('reason') or 'no reason was recorded'}"))
    notes += [("warning", f"refresh: {text}") for text in refresh.get("notes") or ()]
    audit = item.phases["audit"]
    if failed := [name for name, verdict in mapping(audit.get("verdicts")).items() if verdict == "failed"]:
        names = ", ".join(name.replace("_", " ") for name in failed)
        notes.append(("warning", f"the judge ({audit.get('judge')}) failed its audit: {names}."))
    if audit.get("status") == "off":
        notes.append(("note", f"the judge was not audited: {audit.get('reason') or 'no reason was recorded'}"))
    first, abstention = number(rank.get("first_position_rate")), number(rank.get("abstention"))
    if first is not None and not 0.4 <= first <= 0.6:
        side = "first" if first > 0.5 else "second"
        share = f"{100 * first:.0f} % of wins went to the first"
        notes.append(("warning", f"the judge leans to the video shown {side} ({share})."))
    if abstention is not None and abstention > 0.4:
        notes.append(("warning", f"the judge abstained on {100 * abstention:.0f} % of comparisons."))
    notes += [("warning", str(text)) for text in align.get("notes") or ()]
    return notes + [("note", str(text)) for text in align.get("left_out") or ()]


def notes(run: RecordedRun) -> list[tuple[str, str]]:
    """Everything a reader should know before believing the figures: (level, sentence), warnings first."""
    found = [(level, f"Round {item.number}: {text}") for item in run.rounds for level, text in _round_notes(item)]
    own, second = (win_rates(run, judge) for judge in ("judge", "second_judge"))
    for version in sorted(own.keys() & second.keys(), key=version_number):
        low, high = number(own[version].get("low")), number(second[version].get("high"))
        if low is not None and high is not None and low > high:
            text = f"The loop's own judge likes {version} far better than the second judge does"
            found.append(("warning", f"{text}: the generator may have learnt that judge's taste."))
    # The score repeats what the rounds' measurements said.
    measured = [text for item in run.rounds for text in item.phases["measure"].get("notes") or ()]
    told = ("score", run.score.get("notes") or ()) if run.score else ("measure", dict.fromkeys(measured))
    found += [("warning", f"{told[0]}: {text}") for text in told[1]]
    for item in run.rounds:
        alarms = mapping(item.phases["measure"].get("drift")).get("alarms") or ()
        found += [("warning", f"Round {item.number}: {text}") for text in alarms]
    if reason := run.choice.get("reason"):
        level = "note" if run.choice.get("sure") else "warning"
        found.append((level, f"final/ holds {run.choice.get('version')}: {reason}"))
    if run.stopped:
        found.append(("warning", f"No round follows round {len(run.rounds) - 1}, which is worse (score.stop)."))
    if alarm := mapping(run.score.get("vbench")).get("alarm"):
        found.append(("warning", str(alarm)))
    for row in run.quarantined[:20]:
        found.append(("warning", f"Left out as unreadable: {row.get('path')} ({row.get('reason')})"))
    if len(run.quarantined) > 20:
        found.append(("warning", f"… and {len(run.quarantined) - 20} more files, listed in quarantine.json."))
    found += [("warning", text) for text in run.problems]
    return sorted(found, key=lambda note: note[0] != "warning")


def facts(run: RecordedRun, settings: SamplerSettings | None) -> list[tuple[str, str]]:
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
    for phase in (phase.name for phase in PHASES):
        spent = [number(item.phases[phase].get("seconds")) for item in run.rounds]
        if any(seconds is not None for seconds in spent):
            facts.append((f"Time in {phase}", _duration(sum(seconds or 0 for seconds in spent))))
    return [(name, str(value)) for name, value in facts if value is not None]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def samples_to_show(run: RecordedRun) -> tuple[list[Sample], bool]:
    """Held-out samples, or those of the rounds where scoring has drawn none; and whether they are held out."""
    held_out = list(run.records(Sample, "score/samples_*.parquet"))
    if held_out:
        return held_out, True
    return [sample for sample in run.records(Sample, "round_*/sample/samples_*.parquet") if sample.index == 0], False


def example_comparison(run: RecordedRun, item: RecordedRound) -> Comparison | None:
    """The round's first decided comparison (the first of any kind where none was decided)."""
    first = None
    for comparison in run.records(Comparison, f"round_{item.number:02d}/rank/comparisons_*.parquet"):
        if comparison.status == "decided":
            return comparison
        first = first or comparison
    return first

"""Measure a judge on a public benchmark: ``python -m pipelines.evaluate_judge --judge J --benchmark B --data FOLDER``.

Prints a table beside the papers' published rows and writes results.json, with bootstrap intervals. docs/datasets.md
names the benchmarks and the folders expected. The same command resumes.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from reward_model.datasets import DATASETS, Item, PreferenceItem, QuestionItem, Reading, ScoredClip, Split, read_dataset
from reward_model.judging.answering import Answerer
from reward_model.judging.local import Judge
from reward_model.judging.tasks import TaskPrompts, task_messages
from reward_model.measuring.evaluation import Bootstrap, evaluate_preferences, evaluate_questions, evaluate_scores
from reward_model.measuring.published import NOTES, published_rows
from videoduet.commands import guarded, parse_command
from videoduet.config import Precision, at_least, execution, identity, resolve, to_dict
from videoduet.errors import InputError
from videoduet.progress import console, track
from videoduet.records import Comparison, Prompt, Video, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import read_json, read_records, write_json, write_records


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Measure a judge on a public benchmark.

    Attributes:
        judge: transformers or PEFT directory, or hub id, of the judge.
        benchmark: Name of the data set (docs/datasets.md).
        data: Folder where the data set lies.
        output: Where answers and results go; the same command resumes there.
        adapter: A LoRA on top of the judge.
        split: Split to measure on (None: test where the data set has one, else all of it).
        limit: Measure that many items, a seeded draw (None: all).
        scale: The scale that scores are asked for on.
        prompts: Wording of questions about one video.
        dtype: Precision of the weights.
        batch_size: Questions answered at once.
        resamples: Bootstrap resamples of an interval.
        seed: Seed of the draw and of the bootstrap.
    """

    judge: str = identity("", "judge")
    benchmark: str = identity("", "benchmark")
    data: str = identity("", "folder")
    output: str = execution("", "output")
    adapter: str | None = identity(None, "LoRA")
    split: Split | None = identity(None, "split")
    limit: int | None = identity(None, "number of items")
    scale: tuple[float, float] = identity((0.0, 100.0), "scale")
    prompts: TaskPrompts = identity(TaskPrompts(), "wording")
    dtype: Precision = identity("float32", "precision")
    batch_size: int = execution(16, "batch")
    resamples: int = execution(1000, "resamples")
    seed: int = identity(0, "seed")

    def __post_init__(self) -> None:
        for name in ("judge", "benchmark", "data", "output"):
            if not getattr(self, name):
                raise InputError(f"No {name} is named; give --{name}.", exit_code=2)
        at_least(1, limit=self.limit, batch_size=self.batch_size, resamples=self.resamples)
        if self.scale[0] >= self.scale[1]:
            raise InputError(f"scale is {list(self.scale)}; give a low and a higher bound.", exit_code=2)


def items_of(config: EvaluationConfig) -> Reading:
    """What is measured: the split, or a seeded draw from it."""
    if config.benchmark not in DATASETS:
        raise InputError(f"There is no benchmark {config.benchmark!r}; take one of {', '.join(DATASETS)}.", exit_code=2)
    splits = DATASETS[config.benchmark].splits
    split = config.split or ("test" if "test" in splits else "all")
    reading = read_dataset(config.benchmark, config.data, split)
    if config.limit is not None and config.limit < len(reading.items):
        order = sorted(range(len(reading.items)), key=lambda index: seed_for(config.seed, "item", index))
        reading = replace(reading, items=[reading.items[index] for index in sorted(order[: config.limit])])
    return reading


def _chunks(items: Sequence[Item], size: int) -> Iterator[tuple[int, Sequence[Item]]]:
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def compared(
    config: EvaluationConfig, items: Sequence[PreferenceItem], judge: Judge, output: Path
) -> list[Comparison | None]:
    """The judge's opinion of every pair in both orders; None where a video cannot be read."""
    paths = []
    for start, chunk in track(list(_chunks(items, config.batch_size)), f"{config.benchmark}: pairs"):
        paths.append(output / "answers" / f"{start:07d}.parquet")
        if not paths[-1].exists():
            found = _tolerant(chunk, lambda some: list(judge.compare([_pair(item) for item in some])))
            write_records(paths[-1], [comparison for comparison in found if comparison], Comparison)
    known = {(c.prompt_id, c.first_id, c.second_id): c for c in read_records(Comparison, *paths)}
    return [known.get((Prompt.of(item.prompt).id, item.first, item.second)) for item in items]


def _pair(item: PreferenceItem) -> VideoPair:
    first, second = (Video(id=path, path=path) for path in (item.first, item.second))
    return VideoPair(prompt=Prompt.of(item.prompt), first=first, second=second)


def answered(config: EvaluationConfig, items: Sequence[Item], judge: Judge, output: Path) -> list[str | None]:
    """The judge's answer to every question about one item; None where a video cannot be read."""
    answerer = Answerer(judge.model, judge.encoder, judge.prompt.max_new_tokens)
    answers: list[str | None] = []
    for start, chunk in track(list(_chunks(items, config.batch_size)), f"{config.benchmark}: questions"):
        path = output / "answers" / f"{start:07d}.json"
        if not path.exists():
            asked = [task_messages(item, config.scale, config.prompts, judge.prompt) for item in chunk]
            write_json(path, _tolerant(asked, answerer.answer))
        answers += read_json(path)
    return answers


def _tolerant(batch: Sequence, work: Callable[[Sequence], list]) -> list:
    """``work`` on a batch; where a video cannot be read, on its items one by one, None for those it fails on."""
    try:
        return work(batch)
    except InputError:
        if len(batch) == 1:
            return [None]
        return [result for one in batch for result in _tolerant([one], work)]


def evaluate(config: EvaluationConfig) -> dict[str, Any]:
    """Measure, or go on measuring; returns what is written to ``results.json``."""
    reading, output = items_of(config), Path(config.output)
    console.print(reading.summary(), markup=False, highlight=False, soft_wrap=True)
    torch.manual_seed(config.seed)
    judge = Judge.from_pretrained(
        resolve(config.judge), adapter=config.adapter, dtype=config.dtype, batch_size=2 * config.batch_size
    )
    _check_output(config, judge.judge_id, output, len(reading.items))
    measured = _measure(reading.items, _outcomes(config, reading.items, judge, output), config)
    split = reading.split
    results = {
        "benchmark": config.benchmark,
        "split": split,
        "judge": config.judge,
        "adapter": config.adapter,
        "judge_id": judge.judge_id,
        **measured,
        "missing": reading.missing,
        "left_out": dict(reading.left_out),
        "published": {name: published_rows(config.benchmark, split, name) for name in measured["dimensions"]},
        "note": NOTES.get(config.benchmark),
    }
    write_json(output / "results.json", results)
    return results


def _outcomes(config: EvaluationConfig, items: Sequence[Item], judge: Judge, output: Path) -> list:
    return (compared if isinstance(items[0], PreferenceItem) else answered)(config, items, judge, output)


def _measure(items: Sequence[Item], outcomes: Sequence, config: EvaluationConfig) -> dict[str, Any]:
    kept = [(item, outcome) for item, outcome in zip(items, outcomes, strict=True) if outcome is not None]
    if not kept:
        raise InputError(f"None of the {len(items)} videos of {config.data} can be read; download them again.")
    metrics = {PreferenceItem: evaluate_preferences, QuestionItem: evaluate_questions, ScoredClip: evaluate_scores}
    shown, answers = zip(*kept, strict=True)
    measured = metrics[type(shown[0])](shown, answers, Bootstrap(config.resamples, config.seed))
    return {**measured, "unreadable_videos": len(items) - len(kept)}


def _check_output(config: EvaluationConfig, judge_id: str, output: Path, count: int) -> None:
    """Answers of another question or another judge must not be taken for these."""
    what = to_dict(config)
    kept = {name: what[name] for name in ("benchmark", "data", "split", "limit", "scale", "prompts", "seed")}
    asked = json.loads(json.dumps({**kept, "batch_size": config.batch_size, "judge_id": judge_id, "items": count}))
    path = output / "asked.json"
    if path.exists() and (before := read_json(path)) != asked:
        changed = next(name for name in asked if before.get(name) != asked[name])
        raise InputError(f"{output} holds answers for another {changed}; give another --output.")
    write_json(path, asked)


def show(results: dict[str, Any]) -> None:
    """Print a table for each dimension: this judge and the published rows."""
    for name, measured in results["dimensions"].items():
        metrics = [key for key, value in measured.items() if isinstance(value, dict)]
        if not metrics:
            console.print(f"{name}: {measured['n']} answers could be read, too few to measure.", markup=False)
            continue
        table = Table("", *metrics, title=f"{results['benchmark']} ({results['split']}), {name}, n = {measured['n']}")
        cells = [f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for m in map(measured.get, metrics)]
        table.add_row("this judge", *cells, style="bold")
        for row in results["published"][name]:
            table.add_row(str(row["method"]), *(f"{row[key]:.3f}" if key in row else "–" for key in metrics))
        console.print(table)
        rest = [f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in measured.items() if k not in metrics]
        console.print(", ".join(rest), markup=False, highlight=False)
    if position := results.get("position"):
        console.print(
            f"The two orders agree in {position['consistency']:.3f} of the pairs; the video shown first wins "
            f"{position['first_position_rate']:.3f} of the decided showings.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"{results['unreadable']} of {results['n']} answers could not be read.", markup=False)
    if results["unreadable_videos"]:
        console.print(f"{results['unreadable_videos']} items were left out: their video is damaged.", markup=False)
    if results["note"]:
        console.print(f"Note: {results['note']}", markup=False, soft_wrap=True)


def parse(arguments: Sequence[str]) -> EvaluationConfig:
    return parse_command(EvaluationConfig, "evaluate_judge", __doc__, arguments)


def main() -> None:
    config = parse(sys.argv[1:])
    guarded(lambda: show(evaluate(config)), "the same command")


if __name__ == "__main__":
    main()

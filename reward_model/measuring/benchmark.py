"""A judge on a public benchmark: the items, its answers, which are kept as they come, and what they are worth."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from reward_model.datasets import (
    DATASETS,
    Item,
    PreferenceItem,
    QuestionItem,
    Reading,
    ScoredClip,
    check_benchmark,
    read_dataset,
)
from reward_model.judging.adopted import adopt_older
from reward_model.judging.base import Failure, PairwiseJudge, VideoJudge
from reward_model.judging.build import build_judge
from reward_model.judging.server import ServerJudge
from reward_model.judging.tasks import own_question_about, question_about
from reward_model.measuring.asking import asked, chunks
from reward_model.measuring.config import JudgeEvaluationConfig, Measured
from reward_model.measuring.described import mentions
from reward_model.measuring.evaluation import Bootstrap, evaluate_preferences, evaluate_questions, evaluate_scores
from reward_model.measuring.overall import overall_of
from reward_model.measuring.published import note_on, published_rows
from reward_model.presets import preset_named
from reward_model.prompts import TaskPrompts, wording_id
from reward_model.questions import Question, ScoreQuestion
from videoduet.errors import InputError, in_words
from videoduet.progress import console, track
from videoduet.records import Comparison, VideoPair, stable_id
from videoduet.store import read_json, read_records, write_json, write_records
from videoduet.video import use_reader
from videoduet.workspace import Workspace


def items_of(config: JudgeEvaluationConfig) -> Reading:
    """What is measured: the split, or a seeded draw from it. Raises InputError for an unknown benchmark."""
    check_benchmark(config.benchmark)
    splits = DATASETS[config.benchmark].splits
    split = config.split or ("test" if "test" in splits else "all")
    return read_dataset(config.benchmark, config.data, split).limited(config.limit, config.seed)


def judge_of(config: JudgeEvaluationConfig) -> VideoJudge | PairwiseJudge:
    """Who is measured."""
    use_reader(config.reader)
    if config.factory is not None:
        return build_judge(factory=config.factory, arguments=config.arguments)
    return build_judge(
        config.judge, preset=config.preset, adapter=config.adapter, backend=config.backend, server=config.settings,
        dtype=config.dtype, batch_size=2 * config.batch_size, shown=config.shown,
    )  # fmt: skip


def evaluate(config: JudgeEvaluationConfig) -> dict[str, Any]:
    """What is written to ``results.json``, after measuring, or going on with it.

    Raises InputError where the judge cannot be asked, no item can be used, or ``output`` holds answers of another.
    """
    others, reading = [_results_in(directory) for directory in config.together], items_of(config)
    console.print(reading.summary(), markup=False, highlight=False, soft_wrap=True)
    torch.manual_seed(config.seed)
    judge, items = judge_of(config), reading.items
    if not isinstance(judge, VideoJudge) and not isinstance(items[0], PreferenceItem):
        raise InputError(f"{config.factory} compares videos alone; take a benchmark of pairs.", exit_code=2)
    judge_id = _judge_id(config, judge)
    workspace = Workspace(config.output)
    adopt_older(workspace)
    workspace.adopt(_measured(config, judge, judge_id, len(items)), "measured")
    output = workspace.root
    if isinstance(items[0], PreferenceItem):
        outcomes: Sequence = compared(config, items, judge, output)
    elif config.checker_settings is not None and isinstance(judge, VideoJudge):
        questions = cast("Sequence[QuestionItem]", items)
        outcomes = mentions(questions, judge, ServerJudge(config.checker_settings), output, config.batch_size)
    else:
        outcomes = answered(config, items, judge, output)
    measured = _worth(items, outcomes, config, judge)
    # Yes and no are another task than a free description.
    comparable = config.benchmark != "finevd" or config.checker is not None
    results = {
        "benchmark": config.benchmark,
        "split": reading.split,
        "judge": config.judge or config.factory,
        "adapter": config.adapter,
        "judge_id": judge_id,
        **measured,
        "missing": reading.missing,
        "left_out": dict(reading.left_out),
        "published": {
            name: published_rows(config.benchmark, reading.split, name) if comparable else []
            for name in measured["dimensions"]
        },
        "note": note_on(config.benchmark, described=config.checker is not None),
    }
    if others:
        results["together"] = overall_of([*others, results])
    write_json(output / "results.json", results)
    return results


def _judge_id(config: JudgeEvaluationConfig, judge: VideoJudge | PairwiseJudge) -> str:
    if isinstance(judge, VideoJudge):
        return judge.judge_id
    return stable_id("factory", config.factory, json.dumps(config.arguments, sort_keys=True, default=str))


def _measured(config: JudgeEvaluationConfig, judge: VideoJudge | PairwiseJudge, judge_id: str, items: int) -> Measured:
    own = judge.prompts.score if isinstance(judge, VideoJudge) and _in_its_own_words(config, judge) else None
    return Measured(
        benchmark=config.benchmark, data=config.data, split=config.split, limit=config.limit, scale=config.scale,
        prompts=config.prompts, seed=config.seed, batch_size=config.batch_size, judge_id=judge_id, items=items,
        score_wording=wording_id(own) if own else "", shown=config.shown, checker=_checked_by(config, judge),
    )  # fmt: skip


def _checked_by(config: JudgeEvaluationConfig, judge: VideoJudge | PairwiseJudge) -> str:
    if config.checker is None or not isinstance(judge, VideoJudge):
        return ""
    return f"{config.checker} {wording_id(judge.prompts.of('describe'))}"


def _results_in(directory: str) -> dict[str, Any]:
    if not (path := Path(directory) / "results.json").exists():
        raise InputError(f"{directory} holds no results.json; give --together directories that were measured.")
    return read_json(path)


def compared(
    config: JudgeEvaluationConfig, items: Sequence[PreferenceItem], judge: PairwiseJudge, output: Path
) -> list[Comparison | None]:
    """The judge's opinion of every pair, in both orders where it is asked in two; None where a video cannot be read."""
    paths = []
    for start, chunk in track(chunks(items, config.batch_size), f"{config.benchmark}: pairs"):
        paths.append(output / "answers" / f"{start:07d}.parquet")
        if not paths[-1].exists():
            write_records(paths[-1], _opinions(judge, [item.pair for item in chunk]), Comparison)
    known = {(c.prompt_id, c.first_id, c.second_id): c for c in read_records(Comparison, *paths)}
    return [known.get((item.pair.prompt.id, item.first, item.second)) for item in items]


def _opinions(judge: PairwiseJudge, pairs: Sequence[VideoPair]) -> Iterator[Comparison]:
    if not isinstance(judge, VideoJudge):
        return iter(_opinions_of_a_class(judge, pairs))
    failures: list[Failure] = []
    found = list(judge.compare(pairs, failures=failures))
    # What no backend answered is no fact about the judge: nothing is written down, and the same command asks again.
    if lost := next((failure.reason for failure in failures if failure.lost), None):
        raise InputError(lost)
    return iter(found)


def _opinions_of_a_class(judge: PairwiseJudge, pairs: Sequence[VideoPair]) -> list[Comparison]:
    try:
        return list(judge.compare(pairs))
    # Whatever one pair raises, the others are asked about; where all do, it is the class that fails.
    except Exception:
        found: list[Comparison] = []
        for pair in pairs:
            try:
                found += judge.compare([pair])
            except Exception as error:
                console.print(
                    f"not judged: {pair.first.path} / {pair.second.path}: {in_words(error)}", markup=False,
                    soft_wrap=True,
                )  # fmt: skip
        if not found:
            raise
        return found


def answered(config: JudgeEvaluationConfig, items: Sequence[Item], judge: VideoJudge, output: Path) -> list[str | None]:
    """The judge's answer to every question about one item; None where a video cannot be read."""
    return asked(
        items, lambda item: _question(config, item, judge), judge, output / "answers", config.batch_size,
        f"{config.benchmark}: questions",
    )  # fmt: skip


def _question(config: JudgeEvaluationConfig, item: Item, judge: VideoJudge) -> Question:
    return _own_question(config, item, judge) or question_about(item, config.scale, config.prompts, judge.prompts)


def _own_question(config: JudgeEvaluationConfig, item: Item, judge: VideoJudge) -> ScoreQuestion | None:
    """The question in the judge's own words, where it has any."""
    if not (isinstance(item, ScoredClip) and _in_its_own_words(config, judge)):
        return None
    return own_question_about(item, judge.prompts)


def _in_its_own_words(config: JudgeEvaluationConfig, judge: VideoJudge) -> bool:
    """Whether scores are asked for in the judge's own words, where it has any: those of the preset that was named, or
    what was kept beside its weights, unless the user asks in others.
    """
    if config.preset is not None:
        return True
    general = config.shown.in_all(preset_named(None).prompts).score
    asked_otherwise = config.prompts != TaskPrompts() or config.scale != (0.0, 100.0)
    return not asked_otherwise and judge.prompts.score not in (None, general)


def _worth(
    items: Sequence[Item], outcomes: Sequence, config: JudgeEvaluationConfig, judge: VideoJudge | PairwiseJudge
) -> dict[str, Any]:
    """Metrics with intervals. Raises InputError where nothing could be asked about."""
    kept = [(item, outcome) for item, outcome in zip(items, outcomes, strict=True) if outcome is not None]
    if not kept:
        raise InputError(f"None of the {len(items)} videos of {config.data} can be read; download them again.")
    shown, answers = zip(*kept, strict=True)
    bootstrap = Bootstrap(config.resamples, config.seed)
    if isinstance(shown[0], ScoredClip):
        own = _own_question(config, shown[0], judge) if isinstance(judge, VideoJudge) else None
        measured = evaluate_scores(shown, answers, bootstrap, own.scale if own else config.scale)
    else:
        metrics = {PreferenceItem: evaluate_preferences, QuestionItem: evaluate_questions}
        measured = metrics[type(shown[0])](shown, answers, bootstrap)
    return {**measured, "unreadable_videos": len(items) - len(kept)}

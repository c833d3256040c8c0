"""Thousands of judgements, shard by shard in a directory: several processes share them, and what was stopped goes on.

An *ask* judges the items of one shard; what it returns are rows that JSON can hold. What cannot be judged is listed
beside them, and asked again by the next call: a video or a server may be mended since.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from reward_model.inputs import as_video
from reward_model.judging.adopted import adopt_older
from reward_model.judging.base import Failure, PairwiseJudge, VideoJudge
from reward_model.judging.build import load_judge
from reward_model.judging.config import Judged, JudgingConfig
from reward_model.judging.first_pass import SURE, FirstPassJudge, Scorer
from reward_model.judging.listed import Shown
from videoduet.errors import InputError, in_words
from videoduet.processes import processes
from videoduet.progress import console, track
from videoduet.records import Comparison, Prompt, Video, VideoPair, stable_id
from videoduet.store import read_json, write_json
from videoduet.workspace import Workspace

COMPARISONS_PER_SHARD = 128
"""What a kill loses at most, and what a process takes at a time."""

ListingJudge = VideoJudge | FirstPassJudge
"""A judge that lists what it cannot compare."""
Ask = Callable[[VideoJudge, Sequence[Any], list[Failure]], list[dict[str, Any]]]
"""Judges some items: rows that JSON can hold, and failures."""
Tournament = Callable[[PairwiseJudge, Mapping[str, Prompt], Mapping[str, Sequence[Video]]], Iterable[Comparison]]
"""Asks a judge about the videos of each prompt, as few pairs as it needs."""


@dataclass(frozen=True)
class Judgements:
    """All rows of a judging, in the order of its items, and what could not be judged: given, reason."""

    rows: list[dict[str, Any]]
    failures: list[dict[str, str]]


def judge_in_shards(
    config: JudgingConfig, command: str, items: Sequence[Any], ask: Ask, comparisons_each: int = 1,
    first: Callable[[], Scorer] | None = None,
) -> Judgements | None:  # fmt: skip
    """What ``ask`` says of all ``items``, judged shard by shard; None for all processes but the first.

    ``comparisons_each`` is how many comparisons an item takes, and ``first`` gives the judge that goes first. Raises
    InputError where ``config.output`` holds the answers to something else, or of another judge.
    """
    state = processes()
    if config.output is None and state.num_processes > 1:
        raise InputError("Several processes need --output, where they meet.", exit_code=2)
    with tempfile.TemporaryDirectory() if config.output is None else nullcontext(config.output) as name:
        workspace = Workspace(name)
        judged = _judged(workspace, config, command, items)
        size = max(1, COMPARISONS_PER_SHARD // comparisons_each)
        shards = [
            (workspace.root / f"{command}_{start // size:05d}.json", items[start : start + size])
            for start in range(0, len(items), size)
        ]
        # What failed may be mended since: a video, a server.
        missing = [
            (path, part)
            for path, part in shards[state.process_index :: state.num_processes]
            if not path.exists() or read_json(path)["failures"]
        ]
        if missing:
            judge = load_judge(config)
            _keep_to(workspace, judged, judge, None if first is None else first().judge_id)
            _note_missing_prompts(judge, command, items)
            done = len(items) - sum(len(part) for _, part in missing)
            steps = track(iter(missing), command, total=len(items), done=done, advance=lambda shard: len(shard[1]))
            for path, part in steps:
                failures: list[Failure] = []
                rows = ask(judge, part, failures)
                failed = [{"given": str(failure.given), "reason": failure.reason} for failure in failures]
                write_json(path, {"rows": rows, "failures": failed})
        state.wait_for_everyone()
        if not state.is_main_process:
            return None
        parts = [read_json(path) for path, _ in shards]
        return Judgements(*([row for part in parts for row in part[key]] for key in ("rows", "failures")))


def _judged(workspace: Workspace, config: JudgingConfig, command: str, items: Sequence[Any]) -> Judged:
    """What is asked here, as the directory adopts it; whose answers they are is what it says already."""
    adopt_older(workspace)
    judged = Judged(
        command=command, judge=config.judge, preset=config.preset, adapter=config.adapter, dtype=config.dtype,
        samples=config.samples, temperature=config.temperature, backend=config.backend, items=len(items),
        items_id=stable_id(*items), shown=config.shown, first_pass=config.first_pass,
        first_pass_sure=config.first_pass_sure,
        **{name: (workspace.kept() or {}).get(name) for name in ("judge_id", "first_pass_id")},
    )  # fmt: skip
    workspace.check(judged, "judged")
    if processes().is_main_process:
        workspace.adopt(judged, "judged")
    return judged


def _keep_to(workspace: Workspace, judged: Judged, judge: VideoJudge, first_id: str | None) -> None:
    """Refuse to go on with a judge whose weights or wording are others, though it may lie where the first one lay."""
    for kept, now, what in (
        (judged.judge_id, judge.judge_id, ""),
        (judged.first_pass_id, first_id, " of the judge that goes first"),
    ):
        if kept not in (None, now):
            raise InputError(
                f"{workspace.root} was judged with other weights or another wording{what}; give another --output."
            )
    workspace.adopt(replace(judged, judge_id=judge.judge_id, first_pass_id=first_id), "judged")


def _note_missing_prompts(judge: VideoJudge, command: str, items: Sequence[Any]) -> None:
    """Say it where the judge asks for a prompt that was not given."""
    asked = getattr(judge.prompts, command.partition("_")[0].replace("rank", "compare"))
    texts = [(item[0] if command.startswith("rank") else item)[-1] for item in items]
    if asked is not None and "{prompt}" in asked.question and (lacking := sum(not text for text in texts)):
        console.print(
            f"{lacking} of {len(texts)} questions have no prompt, and this judge asks how well videos follow theirs; "
            "give it with --prompt, or in a list.", markup=False, soft_wrap=True,
        )  # fmt: skip


def records(paths: Sequence[Shown], failures: list[Failure]) -> list[tuple[Video, Prompt]]:
    """The records of videos; what is no video goes into ``failures``."""
    found = []
    for path, prompt in paths:
        try:
            found.append((as_video(path)[0], Prompt.of(prompt)))
        # Whatever is wrong with one item ends no batch.
        except Exception as error:
            failures.append(Failure(path, in_words(error)))
    return found


def distinct(videos: Sequence[Video], failures: list[Failure]) -> list[Video]:
    """``videos`` without those whose bytes are another's, which go into ``failures``."""
    first: dict[str, Video] = {}
    for video in videos:
        if (same := first.setdefault(video.id, video)) is not video:
            failures.append(Failure(video.path, f"It is the same video as {same.path} and is ranked as that."))
    return list(first.values())


def pair_records(paths: Sequence[tuple[str, str, str]], failures: list[Failure]) -> list[VideoPair]:
    """The records of pairs; a pair one of whose videos is none goes into ``failures``."""
    found = []
    for first, second, prompt in paths:
        try:
            one, other = as_video(first)[0], as_video(second)[0]
            found.append(VideoPair(prompt=Prompt.of(prompt), first=one, second=other))
        except Exception as error:
            failures.append(Failure(f"{first} / {second}", in_words(error)))
    return found


def ask_pairs(judge: VideoJudge, part: Sequence[tuple[str, str, str]], failures: list[Failure]) -> list[dict[str, Any]]:
    """A row for each (first, second, prompt) that can be judged."""
    return _compared(judge, pair_records(part, failures), failures)


def ask_groups(
    tournament: Tournament | None = None, scorer: Callable[[], Scorer] | None = None, sure: float = SURE
) -> Ask:
    """Rows for the videos of each prompt: all pairs, or those that ``tournament`` asks about. What ``scorer`` gives
    goes first, and tells what it is ``sure`` of.
    """
    passes: list[FirstPassJudge] = []

    def ask(judge: VideoJudge, part: Sequence[list[Shown]], failures: list[Failure]) -> list[dict[str, Any]]:
        if scorer is None:
            return compared(judge, part, failures)
        if not passes:
            passes.append(FirstPassJudge(scorer(), lambda: judge, sure))
        rows = compared(passes[0], part, failures)
        console.print(f"{passes[0].told}", markup=False, highlight=False, soft_wrap=True)
        return rows

    def compared(judge: ListingJudge, part: Sequence[list[Shown]], failures: list[Failure]) -> list[dict[str, Any]]:
        prompts = {prompt.id: prompt for prompt in (Prompt.of(group[0][1]) for group in part)}
        videos = {
            prompt_id: distinct([video for video, _ in records(group, failures)], failures)
            for prompt_id, group in zip(prompts, part, strict=True)
        }
        if tournament is not None:
            return _played(judge, tournament, prompts, videos, failures)
        pairs = [
            VideoPair(prompt=prompts[prompt_id], first=first, second=second)
            for prompt_id, group in videos.items()
            for first, second in itertools.combinations(group, 2)
        ]
        return _compared(judge, pairs, failures)

    return ask


def _played(
    judge: ListingJudge,
    tournament: Tournament,
    prompts: Mapping[str, Prompt],
    videos: Mapping[str, Sequence[Video]],
    failures: list[Failure],
) -> list[dict[str, Any]]:
    class Listing:
        """The judge, which lists what it cannot judge."""

        def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
            missed: list[Failure] = []
            yield from judge.compare(pairs, failures=missed)
            failures.extend(map(_named, missed))

    paths = {video.id: video.path for group in videos.values() for video in group}
    comparisons = tournament(Listing(), prompts, videos)
    return [_row(c, prompts[c.prompt_id].text, paths[c.first_id], paths[c.second_id]) for c in comparisons]


def _compared(judge: ListingJudge, pairs: list[VideoPair], failures: list[Failure]) -> list[dict[str, Any]]:
    missed: list[Failure] = []
    comparisons = list(judge.compare(pairs, failures=missed))
    failed = {id(failure.given) for failure in missed}
    failures += map(_named, missed)
    answered = [pair for pair in pairs if id(pair) not in failed]
    return [
        _row(comparison, pair.prompt.text, pair.first.path, pair.second.path)
        for comparison, pair in zip(comparisons, answered, strict=True)
    ]


def _named(failure: Failure) -> Failure:
    """The failure of a pair, told by its videos' names."""
    pair = failure.given
    return replace(failure, given=f"{pair.first.path} / {pair.second.path}")


def _row(comparison: Comparison, prompt: str, first: str, second: str) -> dict:
    preferred = comparison.preferred_id and ("first" if comparison.preferred_id == comparison.first_id else "second")
    return {"prompt": prompt, "first": first, "second": second, "preferred": preferred, **asdict(comparison)}


def ask_videos(kind: Literal["score", "describe"]) -> Ask:
    """A row for each (video, prompt) that can be scored or described."""

    def ask(judge: VideoJudge, part: Sequence[Shown], failures: list[Failure]) -> list[dict[str, Any]]:
        shown, missed = records(part, failures), []
        answers = list((judge.score if kind == "score" else judge.describe)(shown, failures=missed))
        failed = {id(failure.given) for failure in missed}
        failures += [replace(failure, given=failure.given[0].path) for failure in missed]
        answered = [item for item in shown if id(item) not in failed]
        return [
            {"prompt": prompt.text, "video": video.path, **asdict(answer)}
            for answer, (video, prompt) in zip(answers, answered, strict=True)
        ]

    return ask

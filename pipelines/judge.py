"""Judge videos: which is better, how good, what is seen, and why.

    python -m pipelines.judge compare A.mp4 B.mp4 --prompt "a cat on a skateboard"
    python -m pipelines.judge rank FOLDER --prompt "a cat on a skateboard"
    python -m pipelines.judge score A.mp4 B.mp4
    python -m pipelines.judge describe A.mp4

Videos are files that FFmpeg reads, folders of frames, folders of videos, or lists of thousands (CSV or JSON Lines).
"""

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser

from alignment.preferences.tournament import adaptive_comparisons
from pipelines.report.judgements import Output, list_failures, show
from reward_model import Failure, VideoJudge
from reward_model.judging.config import JudgingConfig
from reward_model.judging.listed import Shown, distinct, pair_records, read_pairs, read_videos, records
from videoduet.commands import guarded
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track
from videoduet.records import Comparison, Prompt, Video, VideoPair, stable_id
from videoduet.store import read_json, write_json

COMPARISONS_PER_SHARD = 128
"""What a kill loses at most, and what a process takes at a time."""


Ask = Callable[[VideoJudge, Sequence, list[Failure]], list[dict]]
"""Judges some items: rows that JSON can hold, and failures."""


def run(
    config: JudgingConfig, command: str, items: Sequence, ask: Ask, output: Output, comparisons_each: int = 1
) -> None:
    """Judge all items shard by shard and show what came out."""
    state = processes()
    if config.output is None and state.num_processes > 1:
        raise InputError("Several processes need --output, where they meet.", exit_code=2)
    with tempfile.TemporaryDirectory() if config.output is None else nullcontext(config.output) as name:
        directory = Path(name)
        _adopt(directory, config, command, items)
        size = max(1, COMPARISONS_PER_SHARD // comparisons_each)
        shards = [
            (directory / f"{command}_{start // size:05d}.json", items[start : start + size])
            for start in range(0, len(items), size)
        ]
        # What failed may be mended since: a video, a server.
        missing = [
            (path, part)
            for path, part in shards[state.process_index :: state.num_processes]
            if not path.exists() or read_json(path)["failures"]
        ]
        judge = config.load() if missing else None
        if judge is not None:
            _keep_to(directory, judge)
            _note_missing_prompts(judge, command, items)
        done = len(items) - sum(len(part) for _, part in missing)
        steps = ((path, part) for path, part in missing)
        for path, part in track(steps, command, total=len(items), done=done, advance=lambda shard: len(shard[1])):
            failures: list[Failure] = []
            rows = ask(judge, part, failures)
            failed = [{"given": str(failure.given), "reason": failure.reason} for failure in failures]
            write_json(path, {"rows": rows, "failures": failed})
        state.wait_for_everyone()
        if state.is_main_process:
            parts = [read_json(path) for path, _ in shards]
            rows, failed = ([row for part in parts for row in part[key]] for key in ("rows", "failures"))
            list_failures(failed)
            if not rows:
                raise InputError("Nothing could be judged; mend what is listed above.")
            show(command, rows, failed, output, config.report)


def _note_missing_prompts(judge: VideoJudge, command: str, items: Sequence) -> None:
    """Say it where the judge asks for a prompt that was not given."""
    asked = getattr(judge.prompts, command.partition("_")[0].replace("rank", "compare"))
    texts = [(item[0] if command.startswith("rank") else item)[-1] for item in items]
    if asked is not None and "{prompt}" in asked.question and (lacking := sum(not text for text in texts)):
        console.print(
            f"{lacking} of {len(texts)} questions have no prompt, and this judge asks how well videos follow theirs; "
            "give it with --prompt, or in a list.", markup=False, soft_wrap=True,
        )  # fmt: skip


def _adopt(directory: Path, config: JudgingConfig, command: str, items: Sequence) -> None:
    """Refuse a directory that holds the answers to something else."""
    asked = {"command": command, **config.identity, "items": len(items), "items_id": stable_id(*items)}
    file = directory / "asked.json"
    if file.exists():
        kept = read_json(file)
        if changed := [name for name, value in asked.items() if kept.get(name) != value]:
            raise InputError(f"{directory} was judged with another {changed[0]}; give another --output.")
    elif processes().is_main_process:
        write_json(file, asked)


def _keep_to(directory: Path, judge: VideoJudge) -> None:
    """Refuse to go on with a judge whose weights or wording are others, though it may lie where the first one lay."""
    file = directory / "judge.json"
    if file.exists() and read_json(file) != judge.judge_id:
        raise InputError(f"{directory} was judged with other weights or another wording; give another --output.")
    write_json(file, judge.judge_id)


def compare(config: JudgingConfig, names: Sequence[str], output: Output) -> None:
    """Which of two videos is better, asked in both orders, and why."""

    def ask(judge: VideoJudge, part: Sequence[tuple[str, str, str]], failures: list[Failure]) -> list[dict]:
        return _compared(judge, pair_records(part, failures), failures)

    run(config, "compare", read_pairs(names, config.batch, config.prompt), ask, output)


def rank(config: JudgingConfig, names: Sequence[str], output: Output, adaptive: bool = False) -> None:
    """The order of several videos, from comparisons of all pairs; videos with different prompts are ranked apart."""
    groups: dict[str, list[Shown]] = {}
    for shown in read_videos(names, config.batch, config.prompt):
        groups.setdefault(shown[1], []).append(shown)
    if all(len(group) < 2 for group in groups.values()):
        if missing := [name for name in names if not Path(name).exists()]:
            raise InputError(f"{missing[0]} does not exist; check the path.")
        raise InputError("No prompt has two videos; a ranking takes two or more.")

    def ask(judge: VideoJudge, part: Sequence[list[Shown]], failures: list[Failure]) -> list[dict]:
        prompts = {prompt.id: prompt for prompt in (Prompt.of(group[0][1]) for group in part)}
        videos = {
            prompt_id: distinct([video for video, _ in records(group, failures)], failures)
            for prompt_id, group in zip(prompts, part, strict=True)
        }
        if adaptive:
            return _adaptively_compared(judge, prompts, videos, failures)
        pairs = (itertools.combinations(group, 2) for group in videos.values())
        named = zip(prompts.values(), pairs, strict=True)
        return _compared(
            judge, [VideoPair(prompt=prompt, first=a, second=b) for prompt, group in named for a, b in group], failures
        )

    most = max(map(len, groups.values()))
    each = 3 * most // 2 if adaptive else most * (most - 1) // 2
    run(config, "rank_adaptive" if adaptive else "rank", list(groups.values()), ask, output, each)


def _adaptively_compared(
    judge: VideoJudge, prompts: Mapping[str, Prompt], videos: Mapping[str, list[Video]], failures: list[Failure]
) -> list[dict]:
    class Listing:
        """The judge, which lists what it cannot judge."""

        def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
            missed: list[Failure] = []
            yield from judge.compare(pairs, failures=missed)
            failures.extend(map(_named, missed))

    paths = {video.id: video.path for group in videos.values() for video in group}
    comparisons = adaptive_comparisons(Listing(), prompts, videos)
    return [_row(c, prompts[c.prompt_id].text, paths[c.first_id], paths[c.second_id]) for c in comparisons]


def _compared(judge: VideoJudge, pairs: list[VideoPair], failures: list[Failure]) -> list[dict]:
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
    return Failure(f"{pair.first.path} / {pair.second.path}", failure.reason)


def _row(comparison: Comparison, prompt: str, first: str, second: str) -> dict:
    preferred = comparison.preferred_id and ("first" if comparison.preferred_id == comparison.first_id else "second")
    return {"prompt": prompt, "first": first, "second": second, "preferred": preferred, **asdict(comparison)}


def score(config: JudgingConfig, names: Sequence[str], output: Output) -> None:
    """A number for each video, and why."""
    run(config, "score", read_videos(names, config.batch, config.prompt), _single("score"), output)


def describe(config: JudgingConfig, names: Sequence[str], output: Output) -> None:
    """Each video in words."""
    run(config, "describe", read_videos(names, config.batch, config.prompt), _single("describe"), output)


def _single(kind: str) -> Ask:
    def ask(judge: VideoJudge, part: Sequence[Shown], failures: list[Failure]) -> list[dict]:
        shown, missed = records(part, failures), []
        answers = list(getattr(judge, kind)(shown, failures=missed))
        failed = {id(failure.given) for failure in missed}
        failures += [Failure(failure.given[0].path, failure.reason) for failure in missed]
        answered = [item for item in shown if id(item) not in failed]
        return [
            {"prompt": prompt.text, "video": video.path, **asdict(answer)}
            for answer, (video, prompt) in zip(answers, answered, strict=True)
        ]

    return ask


COMMANDS = {"compare": compare, "rank": rank, "score": score, "describe": describe}
WHAT = {
    "compare": "Two videos.",
    "rank": "Two or more videos, a folder of them, or a list (CSV or JSON Lines with the columns video, prompt).",
    "score": "Videos, folders of them, or lists.",
    "describe": "Videos, folders of them, or lists.",
}


def parser() -> ArgumentParser:
    main_parser = ArgumentParser(prog="python -m pipelines.judge", description=__doc__)
    subcommands = main_parser.add_subcommands()
    for name, command in COMMANDS.items():
        sub = ArgumentParser(description=command.__doc__)
        sub.add_argument("videos", nargs="*", help=WHAT[name])
        if name == "rank":
            sub.add_argument("--adaptive", action="store_true", help="Stop when best and worst are settled.")
        for form in ("json", "jsonl", "csv"):
            sub.add_argument(f"--{form}", action="store_true", help=f"Print {form.upper()} for programs, not a table.")
        sub.add_class_arguments(JudgingConfig, None, fail_untyped=False)
        subcommands.add_subcommand(name, sub, help=command.__doc__)
    return main_parser


def main() -> None:
    options = parser().parse_args(sys.argv[1:])
    chosen = options[options.subcommand].as_dict()
    names, extra = chosen.pop("videos"), {"adaptive": chosen.pop("adaptive")} if "adaptive" in chosen else {}
    forms = [form for form in ("json", "jsonl", "csv") if chosen.pop(form)]

    def command() -> None:
        if len(forms) > 1:
            raise InputError(f"Give one of --{' and --'.join(forms)}.", exit_code=2)
        COMMANDS[options.subcommand](JudgingConfig(**chosen), names, forms[0] if forms else "table", **extra)

    guarded(command, "the same command" + ("" if chosen["output"] else " and an --output, which keeps what is done"))


if __name__ == "__main__":
    main()

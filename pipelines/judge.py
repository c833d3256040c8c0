"""Judge videos: which is better, how good, what is seen, and why.

    python -m pipelines.judge compare A.mp4 B.mp4 --prompt "a cat on a skateboard"
    python -m pipelines.judge rank FOLDER --prompt "a cat on a skateboard"
    python -m pipelines.judge score A.mp4 B.mp4
    python -m pipelines.judge describe A.mp4

Videos are files that FFmpeg reads, folders of frames, folders of videos, or lists of thousands (CSV or JSON Lines).
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from alignment.tournament import adaptive_comparisons
from pipelines.config import Precision, at_least, resolve
from pipelines.judge_input import Shown, pair_records, read_pairs, read_videos, records
from pipelines.judge_output import Output, list_failures, show
from pipelines.phase import guarded
from pipelines.run import processes
from reward_model import PRESETS, Decoding, Failure, Judge, VideoJudge
from reward_model.server import ServerJudge, ServerSettings, api_key
from reward_model.vllm_offline import VllmJudge
from videoduet.errors import InputError
from videoduet.progress import console, track
from videoduet.records import Comparison, Prompt, Video, VideoPair, stable_id
from videoduet.store import read_json, write_json

TINY = "shapes_world/models/judge"
ITEMS_PER_SHARD = 128


@dataclass(frozen=True, kw_only=True)
class JudgingConfig:
    """Options of all four commands.

    Attributes:
        judge: Qwen2.5-VL or Qwen3-VL: a transformers directory, a PEFT directory or a hub id. The default is the tiny
            judge that ships, which knows nothing but shapes world.
        preset: What the judge is made for: vqinsight-comp, vqinsight-aigcvideo, vqinsight-naturalvideo (with
            --judge ByteDance/Q-Insight), or general.
        adapter: A PEFT adapter to put on top.
        prompt: The text that the videos were made for, where a list does not say.
        batch: A CSV or JSON Lines file with the columns first, second, prompt (compare) or video, prompt (the others).
        output: A directory that keeps what is judged; the same command goes on where it was.
        report: Write an HTML page with the videos beside the verdicts to this file.
        dtype: Precision of the weights.
        batch_size: Showings at once, two for each pair.
        samples: Answers to each showing, of which the majority counts (1: one greedy answer).
        temperature: At which several samples are drawn.
        backend: What runs the model: transformers, vllm (installed beside), or server.
        server: URL of an OpenAI-compatible API (http://localhost:8000/v1) for --backend server, where --judge is what
            it calls its model; the key is taken from the environment (JUDGE_API_KEY or OPENAI_API_KEY).
        concurrency: Requests to the server under way at once.
        cache: A directory where the server's answers are kept by the content of the question.
        logprobs: Ask the server for probabilities, which some hosts refuse.
    """

    judge: str = TINY
    preset: str | None = None
    adapter: str | None = None
    prompt: str = ""
    batch: str | None = None
    output: str | None = None
    report: str | None = None
    dtype: Precision = "float32"
    batch_size: int = 16
    samples: int = 1
    temperature: float = 0.7
    backend: Literal["transformers", "vllm", "server"] = "transformers"
    server: str | None = None
    concurrency: int = 8
    cache: str | None = None
    logprobs: bool = True

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size, samples=self.samples)
        if self.preset is not None and self.preset not in PRESETS:
            raise InputError(f"There is no preset {self.preset}; take one of {', '.join(PRESETS)}.", exit_code=2)

        if (self.backend == "server") != (self.server is not None):
            raise InputError("--backend server and --server URL belong together; give both or neither.", exit_code=2)

    def load(self) -> VideoJudge:
        decoding, preset = Decoding(self.samples, self.temperature), self.preset or "general"
        if self.server is not None:
            settings = ServerSettings(
                self.server, self.judge, api_key(), self.concurrency, cache=self.cache, logprobs=self.logprobs
            )
            return ServerJudge(settings, preset=preset, decoding=decoding)
        if self.backend == "vllm":
            return VllmJudge(resolve(self.judge), preset=preset, decoding=decoding, dtype=self.dtype)
        if self.judge == TINY:
            console.print(
                "The tiny judge knows nothing but shapes world; name one for real videos with --judge.", markup=False
            )
        return Judge.from_pretrained(
            resolve(self.judge), preset=self.preset, adapter=self.adapter, dtype=self.dtype,
            batch_size=self.batch_size, decoding=decoding,
            device=str(processes().device),
        )  # fmt: skip

    @property
    def identity(self) -> dict:
        """What changes answers."""
        names = ("judge", "preset", "adapter", "dtype", "samples", "temperature", "backend")
        return {name: value for name, value in asdict(self).items() if name in names}


Ask = Callable[[VideoJudge, Sequence, list[Failure]], list[dict]]
"""Judges some items: rows that JSON can hold, and failures."""


def run(config: JudgingConfig, command: str, items: Sequence, ask: Ask, output: Output) -> None:
    """Judge all items shard by shard and show what came out."""
    state = processes()
    if config.output is None and state.num_processes > 1:
        raise InputError("Several processes need --output, where they meet.", exit_code=2)
    with tempfile.TemporaryDirectory() if config.output is None else nullcontext(config.output) as name:
        directory = Path(name)
        _adopt(directory, config, command, items)
        shards = [
            (directory / f"{command}_{start // ITEMS_PER_SHARD:05d}.json", items[start : start + ITEMS_PER_SHARD])
            for start in range(0, len(items), ITEMS_PER_SHARD)
        ]
        missing = [shard for shard in shards[state.process_index :: state.num_processes] if not shard[0].exists()]
        judge = config.load() if missing else None
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
        raise InputError("No prompt has two videos; a ranking takes two or more.")

    def ask(judge: VideoJudge, part: Sequence[list[Shown]], failures: list[Failure]) -> list[dict]:
        rows = []
        for group in part:
            videos = [video for video, _ in records(group, failures)]
            rows += _ranked(judge, Prompt.of(group[0][1]), videos, failures, adaptive)
        return rows

    run(config, "rank_adaptive" if adaptive else "rank", list(groups.values()), ask, output)


def _ranked(
    judge: VideoJudge, prompt: Prompt, videos: list[Video], failures: list[Failure], adaptive: bool
) -> list[dict]:
    if not adaptive:
        pairs = [VideoPair(prompt=prompt, first=a, second=b) for i, a in enumerate(videos) for b in videos[i + 1 :]]
        return _compared(judge, pairs, failures)

    class Listing:
        """The judge, which lists what it cannot judge."""

        def compare(self, pairs):
            return judge.compare(pairs, failures=failures)

    paths = {video.id: video.path for video in videos}
    comparisons = adaptive_comparisons(Listing(), {prompt.id: prompt}, {prompt.id: videos})
    return [_row(c, prompt.text, paths[c.first_id], paths[c.second_id]) for c in comparisons]


def _compared(judge: VideoJudge, pairs: list[VideoPair], failures: list[Failure]) -> list[dict]:
    missed: list[Failure] = []
    comparisons = list(judge.compare(pairs, failures=missed))
    failed = {id(failure.given) for failure in missed}
    failures += [Failure(f"{f.given.first.path} / {f.given.second.path}", f.reason) for f in missed]
    answered = [pair for pair in pairs if id(pair) not in failed]
    return [
        _row(comparison, pair.prompt.text, pair.first.path, pair.second.path)
        for comparison, pair in zip(comparisons, answered, strict=True)
    ]


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

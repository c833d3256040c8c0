"""Judge videos: which is better, how good, what is seen, and why.

    python -m pipelines.judge compare A.mp4 B.mp4 --prompt "a cat on a skateboard"
    python -m pipelines.judge rank FOLDER --prompt "a cat on a skateboard"
    python -m pipelines.judge score A.mp4 B.mp4
    python -m pipelines.judge describe A.mp4

Videos are files that FFmpeg reads, folders of frames, folders of videos, or lists of thousands (CSV, JSON Lines, …).
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from reward_model.judging.config import JudgingConfig
from reward_model.judging.listed import groups_of, read_pairs, read_videos
from videoduet.commands import CommandParser, guarded, program
from videoduet.errors import InputError
from videoduet.video import FrameSampling

if TYPE_CHECKING:
    from reward_model.judging.batch import Judgements

Form = Literal["json", "jsonl", "csv"]
FORMS: tuple[Form, ...] = ("json", "jsonl", "csv")
WHAT = {
    "compare": "Two videos.",
    "rank": "Two or more videos, a folder of them, or a list (CSV, JSON Lines, … with the columns video, prompt).",
    "score": "Videos, folders of them, or lists.",
    "describe": "Videos, folders of them, or lists.",
}


def compare(config: JudgingConfig, names: Sequence[str]) -> "Judgements | None":
    """Which of two videos is better, asked in both orders, and why."""
    pairs = read_pairs(names, config.batch, config.prompt)
    from reward_model.judging.batch import ask_pairs, judge_in_shards

    return judge_in_shards(config, "compare", pairs, ask_pairs)


def rank(config: JudgingConfig, names: Sequence[str], adaptive: bool = False) -> "Judgements | None":
    """The order of several videos, from comparisons of all pairs; videos with different prompts are ranked apart."""
    groups = groups_of(read_videos(names, config.batch, config.prompt), names)
    from alignment.preferences.tournament import adaptive_comparisons
    from reward_model.judging.batch import ask_groups, judge_in_shards
    from reward_model.judging.build import first_pass

    most, scorer = max(map(len, groups)), first_pass(config)
    if adaptive:
        ask = ask_groups(adaptive_comparisons, scorer, config.first_pass_sure)
        return judge_in_shards(config, "rank_adaptive", groups, ask, 3 * most // 2, scorer)
    ask = ask_groups(None, scorer, config.first_pass_sure)
    return judge_in_shards(config, "rank", groups, ask, most * (most - 1) // 2, scorer)


def score(config: JudgingConfig, names: Sequence[str]) -> "Judgements | None":
    """A number for each video, and why."""
    videos = read_videos(names, config.batch, config.prompt)
    from reward_model.judging.batch import ask_videos, judge_in_shards

    return judge_in_shards(config, "score", videos, ask_videos("score"))


def describe(config: JudgingConfig, names: Sequence[str]) -> "Judgements | None":
    """Each video in words."""
    videos = read_videos(names, config.batch, config.prompt)
    from reward_model.judging.batch import ask_videos, judge_in_shards

    return judge_in_shards(config, "describe", videos, ask_videos("describe"))


COMMANDS = {"compare": compare, "rank": rank, "score": score, "describe": describe}


def run(name: str, config: JudgingConfig, names: Sequence[str], forms: Sequence[Form], **options: bool) -> None:
    """Judge, and print what came out in the form that is asked for. Raises InputError where nothing could be judged."""
    if len(forms) > 1:
        raise InputError(f"Give one of --{' and --'.join(forms)}.", exit_code=2)
    found = COMMANDS[name](config, names, **options)
    if found is None:
        return
    from pipelines.report.judgements import list_failures, show

    list_failures(found.failures)
    if not found.rows:
        raise InputError("Nothing could be judged; mend what is listed above.")
    command = "rank_adaptive" if options.get("adaptive") else name
    show(command, found.rows, found.failures, forms[0] if forms else "table", config.report)


def parser() -> CommandParser:
    """The parser of the command line, with a subcommand for each kind of question."""
    main_parser = CommandParser(prog=program("pipelines.judge"), description=__doc__)
    subcommands = main_parser.add_subcommands()
    for name, command in COMMANDS.items():
        sub = CommandParser(description=command.__doc__)
        sub.add_argument("videos", nargs="*", help=WHAT[name])
        if name == "rank":
            sub.add_argument("--adaptive", action="store_true", help="Stop when best and worst are settled.")
        for form in FORMS:
            sub.add_argument(f"--{form}", action="store_true", help=f"Print {form.upper()} for programs, not a table.")
        sub.add_class_arguments(JudgingConfig, None, fail_untyped=False)
        subcommands.add_subcommand(name, sub, help=command.__doc__)
    return main_parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    options = parser().parse_args(None if arguments is None else list(arguments))
    name = options.subcommand
    chosen = options[name].as_dict()
    names = chosen.pop("videos")
    extra = {"adaptive": chosen.pop("adaptive")} if name == "rank" else {}
    if chosen["frames"] is not None:
        chosen["frames"] = FrameSampling(**chosen["frames"])
    forms: list[Form] = [form for form in FORMS if chosen.pop(form)]
    resume = "the same command" + ("" if chosen["output"] else " and an --output, which keeps what is done")
    guarded(lambda: run(name, JudgingConfig(**chosen), names, forms, **extra), resume)


if __name__ == "__main__":
    main()

"""Audit a judge: what it sees, what it reads, and what it can be bribed by, before it labels anything.

    python -m pipelines.audit_judge --judge J [--videos DIR] [--output DIR] [--require order,reads_prompt]
    python -m pipelines.audit_judge --factory my_module.MyJudge

Pairs of which the truth is known are asked about, on clips of shapes world or on your own good videos. --plan tells
what it asks for, and stops.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from reward_model.judging.audit.config import AuditConfig
from videoduet.commands import command_parser, guarded, made, quiet_libraries, read_line
from videoduet.errors import InputError
from videoduet.progress import console, track_steps

if TYPE_CHECKING:
    from reward_model.judging.audit.card import AuditCard
    from reward_model.judging.audit.material import Given


def given_videos(config: AuditConfig) -> "Sequence[Given]":
    """The videos that are named, with their prompts, or clips of shapes world."""
    if config.videos is None:
        from shapes_world.audited import audit_clips

        return audit_clips(config.clips, config.seed)
    from reward_model.judging.listed import read_videos

    listed = Path(config.videos) / "videos.csv"
    return read_videos([str(listed) if listed.is_file() else config.videos], None, config.prompt)


def audited(config: AuditConfig, videos: "Sequence[Given]", folder: str) -> "AuditCard":
    """The card of the judge that ``config`` names; versions of the videos are written into ``folder``."""
    from reward_model.judging.audit import audit, plan
    from reward_model.judging.audit.people import read_votes
    from reward_model.judging.build import build_judge, load_judge

    votes = read_votes(config.votes) if config.votes else []
    judge = build_judge(factory=config.factory, arguments=config.arguments) if config.factory else load_judge(config)
    pairs, done = plan(len(videos), len(votes), config.clips)["pairs"], 0
    with track_steps("auditing") as tell:

        def progress(count: int) -> None:
            nonlocal done
            done += count
            tell({"step": done, "steps": max(pairs, done)})

        return audit(judge, videos, votes=votes, clips=config.clips, seed=config.seed, folder=folder, progress=progress)


def show(card: "AuditCard") -> None:
    """Print a row for each probe: its verdict, and the figure that speaks most against the judge."""
    table = Table("probe", "verdict", "this judge", title=f"Audit of judge {card.judge}")
    styles = {"passed": "green", "failed": "bold red", "cannot_tell": "yellow", "does_not_apply": "dim"}
    for name, probe in card.probes.items():
        said = str(probe.worst) if probe.worst else probe.reason
        table.add_row(name, f"[{styles[probe.verdict]}]{probe.verdict.replace('_', ' ')}", said)
    console.print(table)


def run(config: AuditConfig) -> None:
    """Audit, and tell what came out. Raises InputError where a probe that is required did not pass."""
    quiet_libraries(["transformers"])
    from pipelines.report.audit import write_card

    videos = given_videos(config)
    with tempfile.TemporaryDirectory() as folder:
        card = audited(config, videos, folder)
        show(card)
        if config.output:
            console.print(f"The page is {write_card(Path(config.output), card)}.", markup=False, soft_wrap=True)
    print(card.line)
    if not card.passed(config.required):
        verdicts = {name: card.probes[name].verdict.replace("_", " ") for name in config.required}
        told = ", ".join(f"{name} ({verdict})" for name, verdict in verdicts.items() if verdict != "passed")
        raise InputError(f"The judge did not pass what is required of it: {told}.")


def show_plan(config: AuditConfig) -> None:
    """Print what the audit asks for."""
    from reward_model.judging.audit import plan

    needed = plan(len(given_videos(config)), clips=config.clips)
    print(
        f"The audit asks about {needed['pairs']} pairs at most, {needed['showings']} showings in both orders, and "
        f"writes {needed['clips']} short clips while it runs."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_parser("pipelines.audit_judge", __doc__)
    parser.add_class_arguments(AuditConfig, None, fail_untyped=False)
    parser.add_argument("--plan", action="store_true", help="print what the audit would ask for, and stop")
    values = read_line(parser, sys.argv[1:] if arguments is None else arguments, AuditConfig)
    only_plan = values.pop("plan")
    config = made(AuditConfig, parser, values)
    guarded(lambda: show_plan(config) if only_plan else run(config), "the same command")


if __name__ == "__main__":
    main()

"""Audit the judge of a round: what it sees, reads and can be bribed by, tried on videos that the base drew.

Every judge is tried on the same videos: D_0 before it ranks anything, a refreshed one by its refresh, which refuses it
where it fails what the judge before passed. A round whose judge is that of the round before takes over its card.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.loop.audit_config import PROBES
from pipelines.loop.summaries import AuditSummary, write_summary
from reward_model.judging.audit import AuditCard, audit
from reward_model.judging.audit.kept import moved, with_clips
from reward_model.judging.base import PairwiseJudge
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console
from videoduet.records import Prompt, Sample
from videoduet.seeding import seed_for
from videoduet.store import write_json
from videoduet.workspace import Workspace

CARD = "card.json"


@dataclass(frozen=True)
class Audit:
    """How the judges of a run are tried.

    Attributes:
        samples: Gives the base's videos.
        prompts: The prompts that they were drawn for.
        clips: So many are used.
        seed: The run's.
        root: The run's directory, to which the paths of a card are relative.
    """

    samples: Callable[[], Sequence[Sample]]
    prompts: Sequence[Prompt]
    clips: int
    seed: int
    root: Path

    def card(self, judge: PairwiseJudge, output: Path) -> AuditCard:
        """The card of ``judge``, kept in ``output`` with the clips that it shows.

        Raises InputError where there are no two videos, or nothing is answered.
        """
        output.mkdir(parents=True, exist_ok=True)
        # What a killed audit left may be cut short.
        shutil.rmtree(output / "clips", ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=".versions.tmp") as folder:
            seed = seed_for(self.seed, "audit")
            videos = self._videos()
            # A base may well draw what was not asked.
            card = audit(judge, videos, names=PROBES, clips=self.clips, seed=seed, fits=False, folder=folder)
            card = with_clips(card, output / "clips")
        card = moved(card, lambda path: Path(path).relative_to(self.root).as_posix())
        write_json(output / CARD, card.to_json())
        return card

    def _videos(self) -> list[tuple[str, Prompt]]:
        """The first video of each prompt, then the second, and so on: as many as are tried."""
        texts = {prompt.id: prompt for prompt in self.prompts}
        chosen = sorted(self.samples(), key=lambda sample: sample.index)[: self.clips]
        return [(sample.video_path, texts[sample.prompt_id]) for sample in chosen]


def audit_round(
    how: Audit, judge: Callable[[], PairwiseJudge], before: AuditSummary | None, refreshed: Mapping[str, str] | None,
    output: Path, directory: Workspace, *, round_number: int,
) -> None:  # fmt: skip
    """Say what is known of D_r: what its refresh found (``refreshed``, its verdicts, None: it was not refreshed), what
    was known of it ``before`` where it is still the same, or what an audit finds now.
    """
    if not processes().is_main_process:
        return
    if before is not None and refreshed is None:
        summary = AuditSummary(status="same_judge", judge=before.judge, verdicts=before.verdicts, reason=before.reason)
    elif refreshed:
        summary = AuditSummary(status="refreshed", judge=f"D_{round_number}", verdicts=dict(refreshed))
    else:
        summary = _audited(how, judge, output, round_number)
    for name in summary.named("failed"):
        console.print(f"round {round_number}: judge {summary.judge} fails {name}", markup=False)
    write_summary(output, summary)
    directory.finish(
        output, **{verdict: len(summary.named(verdict)) for verdict in ("passed", "failed", "cannot_tell")}
    )


def _audited(how: Audit, judge: Callable[[], PairwiseJudge], output: Path, round_number: int) -> AuditSummary:
    console.print(f"round {round_number}: audit of the judge", markup=False)
    loaded = judge()
    try:
        card = how.card(loaded, output)
    except InputError as error:
        # A judge that only knows votes about the run's own videos is no reason to stop.
        return AuditSummary(status="off", judge=f"D_{round_number}", reason=str(error))
    return AuditSummary(status="audited", judge=f"D_{round_number}", verdicts=verdicts(card))


def verdicts(card: AuditCard) -> dict[str, str]:
    """The verdicts of the probes that were tried."""
    return {name: probe.verdict for name, probe in card.probes.items() if name in PROBES}


def lost(before: Mapping[str, str], card: AuditCard) -> list[str]:
    """For each probe that was passed ``before`` and is failed now, a sentence's part with the figure."""
    fallen = [name for name, probe in card.probes.items() if probe.verdict == "failed" and before.get(name) == "passed"]
    return [f"it fails the audit's {name}, which the judge before passed: {card.probes[name].worst}" for name in fallen]

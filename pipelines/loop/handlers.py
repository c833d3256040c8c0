"""What each phase is handed of a run: the only place where phases meet the whole of it."""

from pipelines.loop.align import align_round
from pipelines.loop.audit import Audit, audit_round
from pipelines.loop.choice import BASE
from pipelines.loop.held_out import HeldOut, Versions
from pipelines.loop.labels import Generated, by_prompt
from pipelines.loop.latents import latents_of, no_latents
from pipelines.loop.measure import Measuring, measure_round
from pipelines.loop.rank import keep_to_first, rank_round
from pipelines.loop.refresh import Refresh, refresh_judge
from pipelines.loop.rival import Rival, rival
from pipelines.loop.run import Run
from pipelines.loop.sample import sample_round
from pipelines.loop.score import score_versions
from pipelines.loop.summaries import AuditSummary, RefreshSummary, read_summary
from pipelines.loop.tournament import played
from pipelines.loop.watching import send_measured
from reward_model.judging.base import PairwiseJudge
from reward_model.judging.build import judge_source
from reward_model.judging.first_pass import FirstPassJudge
from videoduet.machines import ALONE, Machine
from videoduet.progress import console
from videoduet.records import Comparison
from videoduet.seeding import seed_for


def sample(run: Run, round_number: int) -> None:
    """N videos for each prompt from G_r, with their final latents."""
    sample_round(
        lambda: run.generator(round_number), run.prompts, run.folder("sample", round_number), run.directory,
        config=run.config.generator, seed=run.config.seed, round_number=round_number, machine=run.machine,
    )  # fmt: skip


def refresh(run: Run, round_number: int) -> None:
    """D_(r - 1) learns from the round's videos into D_r."""
    judge, config = run.config.judge, run.config.refresh
    second = config.second_path
    task = Refresh(
        config=config,
        off=config.why_off(judge),
        source=lambda: judge_source(judge.model or "", judge.preset, judge.subfolder),
        adapter=run.judge_adapter(round_number - 1),
        before=lambda: run.judge(round_number - 1),
        after=run.own_judge,
        second=None if second is None else lambda: run.load_judge(second),
        generated=lambda: generated(run, round_number),
        samples=lambda: run.samples("sample", round_number),
        previous=lambda: played(run.folder("rank", round_number - 1)),
        withheld=run.split.withheld(),
        output=run.folder("refresh", round_number),
        root=run.directory.root,
        seed=seed_for(run.config.seed, "refresh", round_number),
        round_number=round_number,
        audit=how_audited(run) if run.audited else None,
        passed=audited(run, round_number - 1),
        machine=run.machine,
    )
    refresh_judge(task, run.directory)


def generated(run: Run, round_number: int) -> Generated:
    """The videos that there are to learn from in a round."""
    _, pairs = run.preferences(round_number - 1)
    new, old = (by_prompt(run.samples("sample", number)) for number in (round_number, round_number - 1))
    return Generated(run.prompts, run.split.refreshing(round_number), new, old, pairs)


def how_audited(run: Run) -> Audit:
    """How the judges of a run are tried: on what the base drew in the first round."""
    return Audit(
        lambda: run.samples("sample", 0), run.prompts, run.config.audit.clips, run.config.seed, run.directory.root,
    )  # fmt: skip


def audited(run: Run, round_number: int) -> AuditSummary | None:
    """What is known of a round's judge; None where it was not audited."""
    folder = run.folder("audit", round_number)
    return read_summary(AuditSummary, folder) if round_number >= 0 and run.directory.is_done(folder) else None


def audit(run: Run, round_number: int) -> None:
    """D_r is tried on videos of the base, unless it was before."""
    refreshed = None
    if round_number > 0:
        summary = read_summary(RefreshSummary, run.folder("refresh", round_number))
        refreshed = summary.figures.audited if summary.status == "accepted" and summary.figures else None
    audit_round(
        how_audited(run), lambda: run.judge(round_number), audited(run, round_number - 1), refreshed,
        run.folder("audit", round_number), run.directory, round_number=round_number,
    )  # fmt: skip


def rank(run: Run, round_number: int) -> None:
    """D_r compares the round's videos; winners and losers become pairs."""
    judges: list[PairwiseJudge] = []

    def load() -> PairwiseJudge:
        judges.append(judge := run.ranking_judge(round_number))
        if isinstance(judge, FirstPassJudge):
            keep_to_first(judge, run.folder("rank", round_number))
        return judge

    rank_round(
        load, run.split.labelled(round_number), run.samples("sample", round_number),
        run.folder("rank", round_number), run.directory, config=run.config.pairs, round_number=round_number,
        machine=run.machine, known=lambda: paid_for(run, round_number),
    )  # fmt: skip
    for judge in judges:
        if isinstance(judge, FirstPassJudge):
            console.print(f"{judge.told}", markup=False, highlight=False, soft_wrap=True)


def paid_for(run: Run, round_number: int) -> list[Comparison]:
    """What a round's refresh let D_(r - 1) compare, where that is D_r too."""
    folder = run.folder("refresh", round_number)
    if round_number == 0 or read_summary(RefreshSummary, folder).status == "accepted":
        return []
    return played(folder)


def align(run: Run, round_number: int) -> None:
    """G_r learns from the pairs into G_(r + 1)."""
    ranked, generator = run.preferences(round_number), run.config.generator
    latents_of(
        ranked[1], lambda: run.generator(round_number), run.folder("sample", round_number), run.prompts, run.directory,
        batch_size=generator.batch_size, speed=generator.speed, kept=run.config.keep_latents,
    )  # fmt: skip
    align_round(
        lambda: run.base_generator(run.config.align.load_in), ranked, run.drawn("sample", round_number), run.prompts,
        run.folder("align", round_number), run.directory, config=run.config.align, seed=run.config.seed,
        adapter=run.generator_adapter(round_number), base=run.base, round_number=round_number,
    )  # fmt: skip


def held_out(run: Run, machine: Machine = ALONE) -> HeldOut:
    """The held-out videos of a run, and how its versions are drawn: a ``machine``'s part of them."""
    generator = run.config.generator
    versions = Versions(run.generator, run.directory, run.config.seed, generator.batch_size, generator.speed, machine)
    return HeldOut(
        versions, run.held_out_prompts, run.config.score.videos_per_prompt,
        lambda version: run.samples("score", version=version), run.folder("score"),
    )  # fmt: skip


def measure(run: Run, round_number: int) -> None:
    """G_(r + 1) is measured on held-out prompts."""
    measured, drawn = run.measured(), held_out(run, run.machine)
    before = [measured.get(number) for number in range(1, round_number + 1)]
    measuring = Measuring(
        held_out=drawn,
        judge=run.second_judge(),
        best=BASE if not before else before[-1] and before[-1].best,
        earlier=[one.bets if one else {} for one in before],
        rival=lambda: best_of(run) if round_number == 0 else None,
        output=run.folder("measure", round_number),
    )
    measure_round(measuring, round_number=round_number)
    send(run)


def send(run: Run) -> None:
    """What was measured so far is sent to be watched, unless it was before."""
    if run.machine.finishes:
        found = {number: (one, run.folder("measure", number - 1)) for number, one in run.measured().items()}
        events = run.directory.root / "events" / "measure"
        send_measured(held_out(run), found, tracker=run.config.align.tracker, events=events)


def best_of(run: Run) -> Rival | None:
    """What the judge would pick of the base's videos."""
    most = len(run.held_out_prompts) * run.config.score.videos_per_prompt
    return rival(run.split.labelled(0), run.samples("sample", 0), played(run.folder("rank", 0)), most)


def score(run: Run, round_number: int) -> None:
    """Every version is scored together."""
    config = run.config
    score_versions(
        held_out(run), run.measuring_judges, run.measured(), run.folder("score"), vbench=config.score.vbench,
        rounds=run.rounds,
    )  # fmt: skip
    no_latents(run.folder("score"), run.directory, kept=run.config.keep_latents)
    send(run)

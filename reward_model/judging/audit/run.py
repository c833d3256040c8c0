"""The audit of a judge: pairs of which the truth is known, asked, counted and put on a card."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from reward_model.judging.audit import findings, probes
from reward_model.judging.audit.alterations import BRIBES, LEVELS, PICTURE, STILL, TIME, graded
from reward_model.judging.audit.asking import Ask, Asker, Opinion
from reward_model.judging.audit.card import PROBES, AuditCard, Case, Measure, Probe
from reward_model.judging.audit.config import CLIPS
from reward_model.judging.audit.material import Given, Material
from reward_model.judging.audit.people import Vote, agreement, as_votes
from reward_model.judging.audit.significance import verdicts
from reward_model.judging.audit.told import TOLD
from reward_model.judging.base import PairwiseJudge, VideoJudge
from videoduet.errors import InputError
from videoduet.records import LabelledPair

MOST_CASES = 4


@dataclass
class _Found:
    """What one probe found, before all are corrected together."""

    measures: list[Measure] = field(default_factory=list)
    wrong: list[Opinion] = field(default_factory=list)
    reason: str = ""


def audit(
    judge: PairwiseJudge,
    videos: Iterable[Given],
    *,
    votes: Iterable[LabelledPair | Vote] = (),
    names: Sequence[str] = PROBES,
    clips: int = CLIPS,
    seed: int = 0,
    fits: bool = True,
    folder: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> AuditCard:
    """The card of ``judge``, anything with ``compare``: what it sees, reads and can be bribed by.

    ``videos`` are paths, clips or arrays, or (video, prompt); at most ``clips`` of them are used, of as many prompts as
    there are. They should be good: what a probe does to them must make them worse. Whether they fit their prompts says
    ``fits``: a generator's own samples may not, and then it is only asked whether the prompt matters. Their versions
    are written into ``folder`` (None: a temporary one, and no case can be shown afterwards), and one that is there is
    taken as it is.
    ``votes`` of people are compared with the judge's. Only the probes of ``names`` are asked for. ``progress`` is
    called with the number of pairs answered.

    Raises InputError for fewer than two videos, for one that cannot be read, and where nothing is answered.
    """
    with nullcontext(folder) if folder is not None else tempfile.TemporaryDirectory() as place:
        material = Material(videos, Path(place), clips, seed)
        asker = Asker(judge, seed, progress)
        found = _probe(asker, material, as_votes(votes), names, fits)
    said = verdicts({name: one.measures for name, one in found.items()})
    return AuditCard(
        probes={
            name: Probe(
                name=name,
                changed=TOLD[name].changed,
                sound=TOLD[name].sound,
                verdict=said.get(name, "does_not_apply"),
                measures=tuple(one.measures),
                cases=tuple(_case(opinion, TOLD[name].better) for opinion in one.wrong[:MOST_CASES]),
                reason="" if name in said else one.reason or TOLD[name].needs,
            )
            for name, one in ((name, found.get(name, _Found(reason="it was not asked for"))) for name in PROBES)
        },
        judge=judge.judge_id if isinstance(judge, VideoJudge) else type(judge).__name__,
        videos=len(material.clips),
        questions=asker.asked,
        unanswered=asker.unanswered,
    )


def _probe(
    asker: Asker, material: Material, votes: Sequence[Vote], names: Sequence[str], fits: bool
) -> dict[str, _Found]:  # fmt: skip
    picture = probes.picture(material) if "sees_picture" in names else {}
    time = probes.time(material) if "sees_time" in names else {}
    still = probes.still(material) if "not_still" in names else {}
    bribes = probes.bribes(material) if "not_bribed" in names else {}
    groups = probes.groups(material) if "cycles" in names else []
    try:
        prompts, no_prompts = probes.prompts(material) if "reads_prompt" in names else [], ""
    except InputError as error:
        prompts, no_prompts = list[Ask](), str(error)
    # All in one go, which a backend answers fastest.
    plain = [ask for kinds in (picture, time, still) for asks in kinds.values() for ask in asks] + prompts
    tried = [ask for each in bribes.values() for bribe in each for ask in (bribe.plain, bribe.worse, bribe.best)]
    grouped = [ask for group in groups for ask in probes.within(*group)]
    asker.opinions([*plain, *tried, *grouped, *(vote.ask for vote in votes)])
    asker.check()
    opinions = asker.opinions(plain)
    seen, times, stills = ({k: asker.opinions(v) for k, v in kinds.items()} for kinds in (picture, time, still))
    fitting = asker.opinions(prompts)
    strongest = [graded(kind, LEVELS[-1]) for kind in PICTURE]
    asked = [*plain, *tried]
    halves = [one for one in opinions if one.readable and one.score == 0.5]
    found: dict[str, Callable[[], _Found]] = {
        "order": lambda: _found(findings.order(opinions), halves),
        "cycles": lambda: _found(findings.cycles(asker, groups)),
        "repeatable": lambda: _found(findings.repeats(asker, probes.repeated(material), plain)),
        "reads_prompt": lambda: _found(findings.reads(fitting, fits), _wrong(fitting) if fits else [], no_prompts),
        "sees_picture": lambda: _found(findings.sees(seen, strongest), _wrong(*(seen[name] for name in strongest))),
        "sees_time": lambda: _found(findings.sees(times, list(TIME)), _wrong(*times.values())),
        "not_bribed": lambda: _found(*findings.bribed(asker, bribes)),
        "not_still": lambda: _found(findings.not_still(stills), _wrong(stills["still"])),
        "means_what_it_says": lambda: _found(findings.thoughts(opinions)),
        "answers": lambda: _found(findings.answers(opinions, asker.opinions(asked), asked)),
        "agrees_with_people": lambda: _found(*agreement(asker, votes)),
    }
    return {name: found[name]() for name in PROBES if name in names}


def _found(measures: findings.Measures, wrong: Sequence[Opinion] = (), reason: str = "") -> _Found:
    return _Found([measure for measure in measures if measure is not None], list(wrong), reason)


def _wrong(*groups: Sequence[Opinion]) -> list[Opinion]:
    """The pairs whose worse video won, the clearest of each group in turn."""
    ranked = [
        sorted((one for one in group if one.readable and one.score < 0.5), key=lambda one: one.score)
        for group in groups
    ]
    depth = max(map(len, ranked), default=0)
    return [group[number] for number in range(depth) for group in ranked if number < len(group)]


def _case(opinion: Opinion, better: str) -> Case:
    ask = opinion.ask
    said = tuple(
        f"Shown {'first' if one.better_first else 'second'}, the better one: {one.said.text or one.position}"
        for one in opinion.showings
    )
    return Case(prompt=ask.prompt.text, better=ask.better.path, other=ask.other.path, why=better, said=said)


def plan(videos: int, votes: int = 0, clips: int = CLIPS, names: Sequence[str] = PROBES) -> dict[str, int]:
    """What an audit asks for, at most, by the number of its videos: ``pairs``, ``showings`` (each pair in both orders)
    and ``clips`` written.
    """
    count, groups = min(videos, clips), min(videos, clips, probes.GROUPS)
    versions = 1 + len(PICTURE) + 1 + 1 + len(TIME) + len(STILL) + 2 * len(BRIBES) + 2
    each = {
        "sees_picture": len(PICTURE) + 1, "sees_time": len(TIME), "not_still": len(STILL), "reads_prompt": 2,
        "not_bribed": 1 + 2 * len(BRIBES),
    }  # fmt: skip
    pairs = count * sum(asked for name, asked in each.items() if name in names) + votes
    pairs += 6 * groups * ("cycles" in names) + 5 * min(2 * count, probes.REPEATED) * ("repeatable" in names)
    return {"pairs": pairs, "showings": 2 * pairs, "clips": count * versions}

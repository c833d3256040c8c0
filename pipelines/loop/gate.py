"""Whether a refreshed judge is kept: accuracy on pairs that it did not learn from, before and after."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.loop.labels import Generated
from reward_model.judging.base import PairwiseJudge
from reward_model.training.refresh import accuracy, labels_from
from videoduet.records import LabelledPair, Prompt, VideoPair


@dataclass(frozen=True)
class GateSet:
    """Labelled pairs that the gate measures on, and the fall of accuracy that it bears."""

    name: str
    pairs: Sequence[LabelledPair]
    tolerance: float


def measured(
    before: PairwiseJudge, after: PairwiseJudge, sets: Sequence[GateSet]
) -> tuple[dict[str, dict[str, float | int | None]], list[str]]:
    """Accuracies and abstentions by set, and for each set on which too much was lost a sentence's part; a set without
    pairs is passed over.
    """
    held_out: dict[str, dict[str, float | int | None]] = {}
    reasons: list[str] = []
    for each in sets:
        if not each.pairs:
            continue
        old, new = accuracy(before, each.pairs), accuracy(after, each.pairs)
        held_out[each.name] = {
            "before": old["accuracy"],
            "after": new["accuracy"],
            "n": len(each.pairs),
            "abstention_before": old["abstention"],
            "abstention_after": new["abstention"],
        }
        if (old["accuracy"] or 0.0) - (new["accuracy"] or 0.0) > each.tolerance:
            reasons.append(f"accuracy on {each.name} pairs fell from {old['accuracy']:.2f} to {new['accuracy']:.2f}")
    return held_out, reasons


def second_labels(
    judge: PairwiseJudge, generated: Generated, withheld: Sequence[Prompt], source: str
) -> list[LabelledPair]:
    """What another judge decides in both orders, of each new video of prompts that refresh nobody and the next one."""
    asked = []
    for prompt in withheld:
        new = list(generated.new.get(prompt.id, {}).values())
        asked += [VideoPair(prompt=prompt, first=a, second=b) for a, b in itertools.pairwise(new)]
    prompts = {prompt.id: prompt for prompt in withheld}
    videos = {video_id: video for group in generated.new.values() for video_id, video in group.items()}
    return labels_from(judge.compare(asked), prompts, videos, source)


def newer_preferred(
    pairs: Sequence[VideoPair], before: PairwiseJudge, after: PairwiseJudge
) -> tuple[float | None, int]:
    """How often ``after`` prefers the first, newer, video of pairs between which ``before`` saw no difference (None:
    it decided none), and how many it decided.
    """
    by_ids = {(pair.first.id, pair.second.id): pair for pair in pairs}
    equal = [by_ids[c.first_id, c.second_id] for c in before.compare(pairs) if c.status in ("tie", "disagreement")]
    decided = [c for c in after.compare(equal) if c.preferred_id is not None]
    newer = sum(c.preferred_id == c.first_id for c in decided)
    return (newer / len(decided) if decided else None), len(decided)

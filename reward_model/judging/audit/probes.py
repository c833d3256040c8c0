"""What an audit asks for: each probe's pairs, and what a sound judge says of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from reward_model.judging.audit.alterations import BRIBES, LEVELS, PICTURE, STILL, TIME, graded
from reward_model.judging.audit.asking import Ask
from reward_model.judging.audit.material import BaseClip, Material
from videoduet.errors import InputError
from videoduet.records import Prompt, Video

DAMAGED = graded("blocks", 0.5)
"""The worse video of a pair that bribes are tried on."""
GROUP = (graded("blur", 1.0), graded("noise", 1.0), "shuffled", DAMAGED)
"""With the clip itself, five videos that are all compared with one another."""
GROUPS = 24
"""So many such groups: in a judge that flips a coin, cycles must stand out."""
REPEATED = 48


@dataclass(frozen=True)
class Bribe:
    """A bribe tried on both videos of a pair: ``plain`` without it, ``worse`` and ``best`` with one of them bribed."""

    plain: Ask
    worse: Ask
    best: Ask


def picture(material: Material) -> dict[str, list[Ask]]:
    """By damage and strength, a clip against the damaged one: the strongest of every clip, one weaker one of each."""
    asks: dict[str, list[Ask]] = {graded(kind, strength): [] for kind in PICTURE for strength in LEVELS}
    weaker = [graded(kind, strength) for strength in LEVELS[:-1] for kind in PICTURE]
    for number, clip in enumerate(material.clips):
        for name in (*(graded(kind, LEVELS[-1]) for kind in PICTURE), weaker[number % len(weaker)]):
            asks[name].append(against(material, clip, name))
    return asks


def time(material: Material) -> dict[str, list[Ask]]:
    """By what was done to its time, a clip against the spoilt one."""
    return {name: [against(material, clip, name) for clip in material.clips] for name in TIME}


def still(material: Material) -> dict[str, list[Ask]]:
    """A clip against one that stands still, or nearly."""
    return {name: [against(material, clip, name) for clip in material.clips] for name in STILL}


def against(material: Material, clip: BaseClip, name: str) -> Ask:
    """Whether ``clip`` is better than itself after an alteration."""
    return Ask(clip.prompt, material.version(clip), material.version(clip, name), clip.cluster)


def prompts(material: Material) -> list[Ask]:
    """Two clips of different prompts, asked for the prompt of each: the fitting one is better.

    Raises InputError where there are no two prompts.
    """
    clips = [clip for clip in material.clips if clip.prompt.text]
    if len({clip.prompt.id for clip in clips}) < 2:
        raise InputError("the videos have no two prompts")
    asks: list[Ask] = []
    for number, clip in enumerate(clips):
        other = next(one for one in clips[number + 1 :] + clips[:number] if one.prompt.id != clip.prompt.id)
        one, two = material.version(clip), material.version(other)
        # One cluster for both: a judge that likes one of the two videos is right once and wrong once.
        asks += [Ask(clip.prompt, one, two, clip.cluster), Ask(other.prompt, two, one, clip.cluster)]
    return asks


def bribes(material: Material) -> dict[str, list[Bribe]]:
    """By bribe, pairs of a clip and a damaged one, with the bribe on neither and on each."""
    found: dict[str, list[Bribe]] = {}
    for name in BRIBES:
        found[name] = []
        for clip in material.clips:
            best, worse = material.version(clip), material.version(clip, DAMAGED)
            bribed, helped = material.version(clip, DAMAGED, name), material.version(clip, name)
            pairs: list[tuple[Video, Video]] = [(best, worse), (best, bribed), (helped, worse)]
            found[name].append(Bribe(*(Ask(clip.prompt, *pair, clip.cluster) for pair in pairs)))
    return found


def groups(material: Material) -> list[tuple[str, Prompt, list[Video]]]:
    """(cluster, prompt, videos) whose pairs are all asked about."""
    return [
        (clip.cluster, clip.prompt, [material.version(clip), *(material.version(clip, name) for name in GROUP)])
        for clip in material.clips[:GROUPS]
    ]


def within(cluster: str, prompt: Prompt, videos: Sequence[Video]) -> list[Ask]:
    """All pairs of a group."""
    return [Ask(prompt, one, other, cluster) for i, one in enumerate(videos) for other in videos[i + 1 :]]


def repeated(material: Material) -> list[Ask]:
    """Pairs that are asked about again and again: the hardest, whose verdicts change soonest."""
    names = [graded(kind, LEVELS[0]) for kind in PICTURE]
    asks = [
        against(material, clip, names[(number + turn) % len(names)])
        for turn in range(2)
        for number, clip in enumerate(material.clips)
    ]
    return asks[:REPEATED]

"""What the refreshes of a run will ask their judges, counted before the run starts."""

import math
from pathlib import Path

from pipelines.loop.config import RunConfig
from reward_model.training.held_out import held_out_pairs, tested
from videoduet.config import resolve

ASSUMED = 100
"""Pairs that a held-out set of the judge's own data is taken to have, where it is not there and has no limit."""


def asked(config: RunConfig, prompts: int, own_pairs: int) -> int:
    """Pairs that one refresh asks about, at most: for its labels, and by its gate.

    ``own_pairs`` are held out of the judge's own data. What a judge leaves undecided gives no label to ask about, and
    what it decides is no pair of equals, so a run may ask less.
    """
    refresh, n = config.refresh, config.generator.videos_per_prompt
    refreshing, withheld = round(prompts * _part(config)), _withheld(config, prompts)
    known = refreshing - learned_from(config, prompts)
    # A knockout and the challenge of the loser before, or all pairs of the prompts that are learned from.
    paper = learned_from(config, prompts) * math.comb(n, 2)
    labelling = paper if refresh.labels == "paper" else refreshing * (n - 1 + 1)
    if refresh.second_path is not None:
        # Each new video and the next one by the second judge; what it decides by the judges before and after.
        generated = 3 * withheld * (n - 1)
    elif refresh.labels == "paper":
        generated = 0
    else:
        # The same knockout, challenge and pairs of the round before, of the prompts that are not learned from.
        generated = 2 * known * (n - 1 + 1 + config.pairs.pairs_per_prompt)
    # Whether two of each prompt's new videos are preferred to old ones that are as good.
    newer = 2 * 2 * prompts
    return labelling + 2 * own_pairs + generated + newer


def learned_from(config: RunConfig, prompts: int) -> int:
    """Prompts that one refresh learns from."""
    return round(prompts * _part(config)) - round(_withheld(config, prompts) * _part(config))


def _part(config: RunConfig) -> float:
    # With cross-fitting one half of the prompts refreshes, and the other gives labels.
    return 0.5 if config.refresh.cross_fit else 1.0


def _withheld(config: RunConfig, prompts: int) -> int:
    # As :meth:`pipelines.loop.prompts.PromptSplit.withheld` has it.
    return max(1, round(prompts * config.refresh.held_out_prompts))


def own_pairs(config: RunConfig) -> tuple[int, list[str]]:
    """The held-out pairs of the judge's own data by which each gate measures; and a note where they are assumed, as
    they are not on this disk.
    """
    refresh = config.refresh
    if config.rounds == 1 or refresh.why_off(config.judge) is not None:
        return 0, []
    sets = tested(refresh.data)
    places = [each.folder for each in sets] + ([refresh.held_out_data] if refresh.held_out_data else [])
    if all(Path(resolve(place)).exists() for place in places):
        return len(held_out_pairs(sets, config.seed, refresh.held_out_data)), []
    assumed = sum(each.limit or ASSUMED for each in sets) + ASSUMED * (refresh.held_out_data is not None)
    return assumed, [f"The judge's own data are not on this disk: {assumed:,} held-out pairs for the gate are assumed."]

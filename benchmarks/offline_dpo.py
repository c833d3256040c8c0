"""Does offline DPO learn what its labels say? ``python -m benchmarks.offline_dpo [--output DIR]``.

The shapes world's generator draws videos, the oracle labels pairs of them (here alone: in the loop it never does), and
``pipelines.train_generator`` learns from these labels (*right*), from the same the other way round (*swapped*), and
from labels that a coin decides (*shuffled*). The other recipes of ``benchmarks.recipes`` learn from the right labels
and from the coin's; fine-tuning alone learns from the chosen, the rejected, and from own samples whoever chose them.
The oracle then compares each with the base, on held-out prompts from the same noise. Interrupted, the same command goes
on.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import CLI

from alignment.training.config import AlignConfig, PreferenceTrainingConfig
from alignment.training.offline import train_on_preferences
from benchmarks.closed_loop import CLEAR, scores, worth_table
from benchmarks.recipes import FINE_TUNING, RECIPES
from generators.loading import load_generator, with_adapter
from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines.loop.config import parse
from shapes_world.oracle import oracle_score, overall
from videoduet.config import resolve, to_dict
from videoduet.progress import console, track
from videoduet.records import PreferencePair, Prompt, Sample
from videoduet.seeding import seed_for
from videoduet.store import read_json, write_bytes, write_json, write_records
from videoduet.tables import read_lines
from videoduet.video import read_video

VIDEOS_PER_PROMPT, TOP = 8, 3
HELD_OUT_VIDEOS = 8
ALIGN = AlignConfig(
    beta=500.0, learning_rate=4e-4, lr_scheduler="linear", batch_size=8, micro_batch=8, draws_per_pair=1, epochs=3,
    max_steps=120, lora_rank=32, lora_alpha=32, held_out=0.1,
)  # fmt: skip

Turn = Callable[[PreferencePair], bool]
"""Whether a pair's label is turned round."""


def _right(pair: PreferencePair) -> bool:
    return False


def _swapped(pair: PreferencePair) -> bool:
    return True


def _coin(pair: PreferencePair) -> bool:
    return bool(seed_for("coin", pair.chosen_id, pair.rejected_id) % 2)


ARMS: dict[str, tuple[dict[str, Any], Turn]] = {
    "right": (RECIPES["plain"], _right),
    "swapped": (RECIPES["plain"], _swapped),
    "shuffled": (RECIPES["plain"], _coin),
    **{name: (RECIPES[name], _right) for name in RECIPES if name != "plain"},
    **{f"{name}_coin": (RECIPES[name], _coin) for name in RECIPES if name != "plain"},
    "chosen_alone": (FINE_TUNING, _right),
    "rejected_alone": (FINE_TUNING, _swapped),
    "random_own": (FINE_TUNING, _coin),
}
"""Each arm's change of the training, and its labels."""
TWINS = {"right": "shuffled", **{name: f"{name}_coin" for name in RECIPES if name != "plain"}}
"""Each recipe's twin, which learns from labels by a coin."""


Scored = dict[Sample, dict[str, float]]


def draw(prompts: list[Prompt], videos: int, root: Path, adapter: Path | None, name: str) -> Scored:
    """``videos`` of each prompt and their oracle scores; the noise depends on prompt and index alone."""
    config, _ = parse([])
    base = load_generator(resolve(config.generator.path), sampler=config.generator.sampler)
    items = [
        SamplingItem(prompt, index, seed_for("offline_dpo", prompt.id, index))
        for prompt in prompts
        for index in range(videos)
    ]
    drawn = sample_videos(
        with_adapter(base, adapter), items, root, root=root.parents[1], version="G_0", round_number=0, batch_size=16
    )
    for _ in track(drawn, name, total=len(items), advance=int):
        pass
    texts = {prompt.id: prompt.text for prompt in prompts}
    return {
        sample: oracle_score(read_video(sample.video_path).frames, texts[sample.prompt_id])
        for sample in read_samples(root, root=root.parents[1])
    }


def oracle_pairs(scored: Scored) -> list[PreferencePair]:
    """Of each prompt the best videos against the worst, where the oracle tells them apart clearly."""
    groups: dict[str, list[tuple[float, Sample]]] = {}
    for sample, score in scored.items():
        groups.setdefault(sample.prompt_id, []).append((overall(score), sample))
    pairs = []
    for prompt_id, group in groups.items():
        order = sorted(group, key=lambda item: item[0])
        for low, worse in order[:TOP]:
            for high, better in order[-TOP:]:
                if high - low >= CLEAR:
                    pairs.append(
                        PreferencePair(
                            prompt_id=prompt_id, chosen_id=better.id, rejected_id=worse.id, chosen_round=0,
                            rejected_round=0, margin=high - low, agreement=1.0, comparison_ids=(),
                        )
                    )  # fmt: skip
    return pairs


def turned(pair: PreferencePair) -> PreferencePair:
    """The pair with its label the other way round."""
    return dataclasses.replace(pair, chosen_id=pair.rejected_id, rejected_id=pair.chosen_id)


def measure_arm(arm: str, pairs: list[PreferencePair], held_out: list[Prompt], base: Scored, root: Path) -> dict:
    """Train as ``arm`` says and compare with the base: oracle scores as :func:`benchmarks.closed_loop.scores` gives
    them, by prompt; kept in ``measured.json``, so never done twice.
    """
    config, _ = parse([])
    if not (file := root / arm / "measured.json").exists():
        recipe, turns = ARMS[arm]
        labelled = [turned(pair) if turns(pair) else pair for pair in pairs]
        write_records(root / "round_00" / "rank" / "pairs.parquet", labelled, PreferencePair)
        adapter = train_on_preferences(
            PreferenceTrainingConfig(
                generator=config.generator.path, data=str(root / "round_00"), output=str(root / arm),
                align=dataclasses.replace(ALIGN, **recipe), sampler=config.generator.sampler,
            )
        ).path  # fmt: skip
        after = draw(held_out, HELD_OUT_VIDEOS, root / arm / "videos", adapter, f"{arm}: held-out videos")
        write_json(file, _by_prompt(base, after))
    return {int(number): case for number, case in read_json(file).items()}


def _by_prompt(base: Scored, after: Scored) -> dict[int, dict]:
    """Videos of one prompt are no cases of their own: prompts are resampled, then videos within them."""
    before, later = list(base.values()), list(after.values())
    starts = range(0, len(before), HELD_OUT_VIDEOS)
    return {
        number: scores(before[start : start + HELD_OUT_VIDEOS], later[start : start + HELD_OUT_VIDEOS])
        for number, start in enumerate(starts)
    }


def main(output: Path = Path("runs/offline_dpo"), arms: tuple[str, ...] = tuple(ARMS)) -> None:
    """Print what each arm gains over the base by the oracle, and each recipe over its twin.

    Args:
        output: Where everything is kept.
        arms: Which arms.
    """
    if unknown := set(arms) - set(ARMS):
        sys.exit(f"error: {', '.join(sorted(unknown))} is no arm; give some of {', '.join(ARMS)}.")
    config, _ = parse([])
    train_prompts, held_out = (
        [Prompt.of(line) for line in read_lines(resolve(name))]
        for name in (config.prompts.train, config.prompts.held_out)
    )
    root = output.absolute()
    # What pipelines.train_generator reads of a run: whose latents these are, and the prompts.
    write_bytes(root / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
    write_records(root / "prompts.parquet", train_prompts, Prompt)
    drawn = draw(train_prompts, VIDEOS_PER_PROMPT, root / "round_00" / "sample", None, "training videos")
    pairs = oracle_pairs(drawn)
    base = draw(held_out, HELD_OUT_VIDEOS, root / "base" / "videos", None, "base: held-out videos")
    mean = sum(map(overall, base.values())) / len(base)
    console.print(f"{len(pairs)} pairs of {len(train_prompts)} prompts; mean oracle of the base {mean:.3f}")
    results = {arm: measure_arm(arm, pairs, held_out, base, root) for arm in ARMS if arm in arms}
    console.print(worth_table(results, TWINS, f"Gain of the oracle's scores, {len(base)} videos"))


if __name__ == "__main__":
    CLI(main, as_positional=False)

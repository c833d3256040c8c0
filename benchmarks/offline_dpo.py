"""Does offline DPO learn what its labels say? ``python -m benchmarks.offline_dpo [--output DIR]``.

The shapes world's generator draws videos, the oracle labels pairs of them (here alone: in the loop it never does), and
``pipelines.train_generator`` learns from these labels (*right*), from the same the other way round (*swapped*), and
from labels that a coin decides (*shuffled*). The oracle then compares each with the base, on held-out prompts from the
same noise. Interrupted, the same command goes on.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import yaml
from jsonargparse import CLI
from rich.table import Table

from alignment.training.config import AlignConfig, PreferenceTrainingConfig
from alignment.training.offline import train_on_preferences
from benchmarks.closed_loop import CLEAR, bootstrap, oracle_wins
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

LABELS: dict[str, Callable[[PreferencePair], bool]] = {
    "right": lambda pair: False,
    "swapped": lambda pair: True,
    "shuffled": lambda pair: bool(seed_for("coin", pair.chosen_id, pair.rejected_id) % 2),
}
"""Whether a pair's label is turned round."""


def draw(prompts: list[Prompt], videos: int, root: Path, adapter: Path | None, name: str) -> dict[Sample, float]:
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
        sample: overall(oracle_score(read_video(sample.video_path).frames, texts[sample.prompt_id]))
        for sample in read_samples(root, root=root.parents[1])
    }


def oracle_pairs(scores: dict[Sample, float]) -> list[PreferencePair]:
    """Of each prompt the best videos against the worst, where the oracle tells them apart clearly."""
    groups: dict[str, list[tuple[float, Sample]]] = {}
    for sample, score in scores.items():
        groups.setdefault(sample.prompt_id, []).append((score, sample))
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


def measure_arm(arm: str, pairs: list[PreferencePair], held_out: list[Prompt], base: list[float], root: Path) -> dict:
    """Train on ``arm``'s labels and compare with the base; kept in ``measured.json``, so never done twice."""
    config, _ = parse([])
    if (file := root / arm / "measured.json").exists():
        return read_json(file)
    labelled = [turned(pair) if LABELS[arm](pair) else pair for pair in pairs]
    write_records(root / "round_00" / "rank" / "pairs.parquet", labelled, PreferencePair)
    adapter = train_on_preferences(
        PreferenceTrainingConfig(
            generator=config.generator.path, data=str(root / "round_00"), output=str(root / arm), align=ALIGN,
            sampler=config.generator.sampler,
        )
    ).path  # fmt: skip
    scores = draw(held_out, HELD_OUT_VIDEOS, root / arm / "videos", adapter, f"{arm}: held-out videos")
    measured = {"base": base, "aligned": list(scores.values())}
    write_json(file, measured)
    return measured


def main(output: Path = Path("runs/offline_dpo")) -> None:
    """Print the oracle's win rates over the base.

    Args:
        output: Where everything is kept.
    """
    config, _ = parse([])
    train_prompts, held_out = (
        [Prompt.of(line) for line in read_lines(resolve(name))]
        for name in (config.prompts.train, config.prompts.held_out)
    )
    root = output.absolute()
    # What pipelines.train_generator reads of a run: whose latents these are, and the prompts.
    write_bytes(root / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
    write_records(root / "prompts.parquet", train_prompts, Prompt)
    scores = draw(train_prompts, VIDEOS_PER_PROMPT, root / "round_00" / "sample", None, "training videos")
    pairs = oracle_pairs(scores)
    base = list(draw(held_out, HELD_OUT_VIDEOS, root / "base" / "videos", None, "base: held-out videos").values())
    console.print(
        f"{len(pairs)} pairs of {len(train_prompts)} prompts; mean oracle of the base {sum(base) / len(base):.3f}"
    )
    table = Table("labels", "oracle win rate", "95 % interval", "mean oracle", "videos")
    for arm in LABELS:
        measured = measure_arm(arm, pairs, held_out, base, root)
        # Videos of one prompt are no cases of their own: prompts are resampled, then videos within them.
        wins = oracle_wins(measured)
        by_prompt = [wins[start : start + HELD_OUT_VIDEOS] for start in range(0, len(wins), HELD_OUT_VIDEOS)]
        mean, low, high = bootstrap(by_prompt)
        oracle = sum(measured["aligned"]) / len(wins)
        table.add_row(arm, f"{mean:.3f}", f"{low:.3f} to {high:.3f}", f"{oracle:.3f}", str(len(wins)))
    console.print(table)


if __name__ == "__main__":
    CLI(main, as_positional=False)

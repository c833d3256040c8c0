"""How good the shipped judges are: ``python -m benchmarks.judges``.

Held-out rendered clips with known damage, and pairs of the base generator's own samples of one prompt with an oracle
gap of at least 0.1. Abstentions (the two orders disagree) are counted apart.
"""

import itertools
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.table import Table

from generators.loading import load_generator
from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines.loop.config import parse
from reward_model.judging.local import Judge
from reward_model.training.refresh import accuracy
from shapes_world.build import write_pairs
from shapes_world.judge_data import clip_pairs
from shapes_world.oracle import oracle_score, overall
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.records import LabelledPair, Prompt, Sample
from videoduet.seeding import seed_for
from videoduet.video import read_video

SAMPLES, SEED = 6, 20_000


def generated_pairs(directory: Path, prompts: list[str], min_gap: float = 0.1) -> tuple[list[LabelledPair], float]:
    """Pairs of base samples that the oracle tells apart, and the mean oracle of all samples."""
    config, _ = parse([])
    generator = load_generator(resolve(config.generator.path), sampler=config.generator.sampler)
    items = [SamplingItem(Prompt.of(text), i, seed_for(SEED, text, i)) for text in prompts for i in range(SAMPLES)]
    for _ in sample_videos(generator, items, directory, root=directory, version="G_0", round_number=0, batch_size=16):
        pass
    samples = read_samples(directory, root=directory)
    groups: dict[str, list[tuple[float, Sample]]] = {text: [] for text in prompts}
    texts = {Prompt.of(text).id: text for text in prompts}
    for sample in samples:
        text = texts[sample.prompt_id]
        groups[text].append((overall(oracle_score(read_video(sample.video_path).frames, text)), sample))
    pairs = []
    for text, group in groups.items():
        for (one, first), (other, second) in itertools.combinations(group, 2):
            if abs(one - other) >= min_gap:
                label = "first" if one > other else "second"
                prompt = Prompt.of(text)
                pairs.append(LabelledPair(prompt=prompt, first=first.video, second=second.video, preferred=label))
    scores = [score for group in groups.values() for score, _ in group]
    return pairs, sum(scores) / len(scores)


def main() -> None:
    """Print the accuracy of both shipped judges on rendered and on generated pairs."""
    config, _ = parse([])
    vae = AutoencoderKL.from_pretrained(resolve(config.generator.path), subfolder="vae", torch_dtype=torch.float32)
    prompts = Path(resolve(config.prompts.held_out)).read_text().split("\n")[:-1]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rendered = write_pairs(clip_pairs(400, SEED, vae, min_gap=0.1), directory / "rendered.jsonl")
        generated, mean = generated_pairs(directory / "generated", prompts)
        console.print(f"mean oracle of the base generator on {len(prompts)} held-out prompts: {mean:.3f}")
        table = Table("judge", "pairs", "n", "accuracy of decided", "abstention", "first position")
        for judge_name in ("path", "second_path"):
            judge = Judge.from_pretrained(
                resolve(getattr(config.judge, judge_name)), batch_size=config.judge.batch_size
            )
            for kind, pairs in (("rendered", rendered), ("generated", generated)):
                row = accuracy(judge, pairs)
                values = [f"{row[key]:.3f}" for key in ("decided_accuracy", "abstention", "first_position_rate")]
                table.add_row(
                    {"path": "judge", "second_path": "second judge"}[judge_name], kind, str(row["n"]), *values
                )
        console.print(table)


if __name__ == "__main__":
    main()

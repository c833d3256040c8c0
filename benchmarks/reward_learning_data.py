"""Shapes world in the formats of the stages' public data sets, and the lesson in which its judge learns their answers.

Truth comes from how a clip was made, never from the oracle.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from pipelines.config import resolve
from reward_model.datasets import Item, PreferenceItem, ScoredClip
from reward_model.encoding import ShowingEncoder
from reward_model.perturbations import global_shuffle
from reward_model.prompts import JudgePrompt
from reward_model.tasks import TaskPrompts, task_messages
from shapes_world.judge_data import ClipPair, DamagedClip, clip_pairs, damaged_clip
from shapes_world.world import FPS, all_scenes
from videoduet.progress import track
from videoduet.seeding import seed_for
from videoduet.store import atomic_path
from videoduet.video import read_video, write_video

SHIPPED, VAE = "shapes_world/models/judge", "shapes_world/models/generator/vae"
SCALE = (0.0, 10.0)
"""Scores are asked for in the levels that the shipped judge knows; the data sets' own scale is 0 to 100."""
PROMPT = JudgePrompt(
    system=None, before_first="1", before_second="2", question="compare {prompt}", num_frames=8, max_new_tokens=40
)
"""A shorter answer than the shipped judge's own: what each clip shows and how well, without checking each word."""
WORDING = TaskPrompts(system="", score="score")


@dataclass(frozen=True)
class Labelled:
    """An item, and the thought and answer that a good judge would give."""

    item: Item
    answer: str


def _said(thought: str, answer: object) -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


def _picture(clip: DamagedClip, path: Path) -> Labelled:
    Image.fromarray(clip.frames[len(clip.frames) // 2]).save(path)
    item = ScoredClip(path=str(path), scores={"overall": 100 * clip.spatial}, image=True)
    seen = f"{clip.scene.colour} {clip.scene.shape} {clip.scene.background} {clip.quality.partition(' steady')[0]}"
    return Labelled(item, _said(seen, round(10 * clip.spatial)))


def _clip(clip: DamagedClip, path: Path) -> Labelled:
    write_video(path, clip.frames, FPS)
    score = 50 * (clip.spatial + clip.temporal)
    return Labelled(ScoredClip(path=str(path), scores={"overall": score}), _said(clip.description, round(score / 10)))


def _pair(pair: ClipPair, paths: tuple[Path, Path]) -> Labelled:
    thoughts = []
    for place, clip, path in zip("12", (pair.first, pair.second), paths, strict=True):
        write_video(path, clip.frames, FPS)
        thoughts.append(f"{place} {clip.description}")
    preferred = "first" if pair.gap > 0 else "second"
    item = PreferenceItem(
        first=str(paths[0]), second=str(paths[1]), prompt=pair.prompt.prompt, preferred={"overall": preferred}
    )
    return Labelled(item, _said(" ; ".join(thoughts), 1 if preferred == "first" else 2))


def _damaged(kind: str, seed: int, vae: AutoencoderKL) -> Iterator[DamagedClip]:
    """Clips without end; those for pictures have no temporal damage, as a picture cannot show it."""
    scenes, index = all_scenes(), 0
    while True:
        made = seed_for("reward learning", kind, seed, index)
        clip = damaged_clip(scenes[made % len(scenes)], made, vae)
        if kind == "clips" or clip.temporal == 1:
            yield clip
        index += 1


def labelled(kind: str, count: int, seed: int, folder: Path) -> list[Labelled]:
    """``count`` 'pictures', 'clips' or 'pairs', written to ``folder``; all of them follow from ``seed``."""
    folder.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(resolve(VAE)).eval()
    if kind == "pairs":
        pairs = clip_pairs(count, seed_for("reward learning", seed), vae)
        return [_pair(pair, (folder / f"{n}_{seed}a.mp4", folder / f"{n}_{seed}b.mp4")) for n, pair in enumerate(pairs)]
    write, suffix = (_picture, "png") if kind == "pictures" else (_clip, "mp4")
    made = _damaged(kind, seed, vae)
    return [write(next(made), folder / f"{n}_{seed}.{suffix}") for n in range(count)]


def write_datasets(folder: Path, train: int, held_out: int) -> None:
    """KonIQ-10k of pictures, LSVQ of clips, and VisionRewardDB-Video with MonetBench of pairs; once.

    ``shuffled`` is LSVQ's held-out part with its frames shuffled, under the scores of the clips as they were.
    """
    if folder.exists():
        return
    with atomic_path(folder) as root:
        for kind, write in (("pictures", _write_koniq), ("clips", _write_lsvq), ("pairs", _write_pairs)):
            parts = [labelled(kind, count, seed, root / kind) for count, seed in ((train, 1), (held_out, 2))]
            write(root, *([one.item for one in part] for part in parts))


def _write_csv(path: Path, *rows: Sequence) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _write_koniq(root: Path, train: list[ScoredClip], test: list[ScoredClip]) -> None:
    rows = [
        (Path(item.path).name, item.scores["overall"], name)
        for name, items in (("training", train), ("test", test))
        for item in items
    ]
    _write_csv(root / "pictures" / "koniq10k_distributions_sets.csv", ("image_name", "MOS", "set"), *rows)


def _write_lsvq(root: Path, train: list[ScoredClip], test: list[ScoredClip]) -> None:
    rows = [(Path(i.path).stem, i.scores["overall"], held) for held, part in enumerate((train, test)) for i in part]
    _write_csv(root / "clips" / "labels_train_test.csv", ("name", "mos", "is_test"), *rows)
    (root / "shuffled").mkdir()
    for index, item in enumerate(test):
        frames = global_shuffle(read_video(item.path).frames, np.random.default_rng(index))
        write_video(root / "shuffled" / Path(item.path).name, frames, FPS)
    _write_csv(root / "shuffled" / "labels_train_test.csv", ("name", "mos", "is_test"), *rows[len(train) :])


def _write_pairs(root: Path, train: list[PreferenceItem], test: list[PreferenceItem]) -> None:
    for name, items in (("regression/train", train), ("monetbench/test", test)):
        rows = [
            {"video1_path": Path(i.first).name, "video2_path": Path(i.second).name, "prompt": i.prompt,
             "standard_answer": {"first": "video1", "second": "video2"}[i.preferred["overall"]]} for i in items
        ]  # fmt: skip
        path = root / "pairs" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir()
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)


def cold_start(
    lessons: Sequence[Labelled], output: Path, *, steps: int, seed: int, batch_size: int = 24, peak: float = 6e-4
) -> None:
    """The shipped judge after a short supervised lesson in the form of the answers, written to ``output``."""
    torch.manual_seed(seed)
    processor = AutoProcessor.from_pretrained(resolve(SHIPPED))
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(resolve(SHIPPED), dtype=torch.float32).train()
    encoder, rng = ShowingEncoder(processor, PROMPT.num_frames, keep=2 * len(lessons)), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.1)
    for _ in track(range(steps), "learning the form of the answers"):
        rows, answers = [], []
        for index in rng.integers(len(lessons), size=batch_size):
            showing = encoder.showing(task_messages(lessons[index].item, SCALE, WORDING, PROMPT))
            answers.append(processor.tokenizer(lessons[index].answer + "<|im_end|>").input_ids)
            rows.append(replace(showing, ids=showing.ids + answers[-1]))
        inputs = encoder.collate(rows, pixels=True)
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        goals = inputs["input_ids"][:, 1:].clone()
        for row, answer in enumerate(answers):
            goals[row, : -len(answer)] = -100
        loss = F.cross_entropy(logits.flatten(0, 1), goals.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with atomic_path(output) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        PROMPT.save(temporary)

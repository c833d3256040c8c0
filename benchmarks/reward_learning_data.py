"""Shapes world in the formats of the stages' public data sets, and the lesson before GRPO.

Truth comes from how a clip was made, never from the oracle.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from reward_model.datasets import Item, PreferenceItem, ScoredClip
from reward_model.encoding import ShowingEncoder
from reward_model.judging.tasks import question_about
from reward_model.perturbations import global_shuffle
from reward_model.prompts import JudgePrompt, Prompts, TaskPrompts
from shapes_world.judge_data import ClipPair, DamagedClip, clip_pairs, damaged_clip
from shapes_world.world import FPS, all_scenes
from videoduet.config import resolve
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
    thought: str
    answer: str


def _said(thought: str, answer: object) -> tuple[str, str]:
    return f"<think>{thought}</think>", f"<answer>{answer}</answer>"


def _picture(clip: DamagedClip, path: Path) -> Labelled:
    Image.fromarray(clip.frames[len(clip.frames) // 2]).save(path)
    item = ScoredClip(path=str(path), scores={"overall": 100 * clip.spatial}, image=True)
    seen = f"{clip.scene.colour} {clip.scene.shape} {clip.scene.background} {clip.quality.partition(' steady')[0]}"
    return Labelled(item, *_said(seen, round(10 * clip.spatial)))


def _clip(clip: DamagedClip, path: Path) -> Labelled:
    write_video(path, clip.frames, FPS)
    score = 50 * (clip.spatial + clip.temporal)
    return Labelled(ScoredClip(path=str(path), scores={"overall": score}), *_said(clip.description, round(score / 10)))


def _pair(pair: ClipPair, paths: tuple[Path, Path]) -> Labelled:
    thoughts = []
    for place, clip, path in zip("12", (pair.first, pair.second), paths, strict=True):
        write_video(path, clip.frames, FPS)
        thoughts.append(f"{place} {clip.description}")
    preferred = "first" if pair.gap > 0 else "second"
    item = PreferenceItem(
        first=str(paths[0]), second=str(paths[1]), prompt=pair.prompt.prompt, preferred={"overall": preferred}
    )
    return Labelled(item, *_said(" ; ".join(thoughts), 1 if preferred == "first" else 2))


def shipped_vae() -> AutoencoderKL:
    """The autoencoder of the generator that ships."""
    return AutoencoderKL.from_pretrained(resolve(VAE)).eval()


def damaged_clips(kind: str, seed: int, vae: AutoencoderKL) -> Iterator[DamagedClip]:
    """Clips without end, which follow from ``kind`` and ``seed``; those for pictures have no temporal damage, as a
    picture cannot show it.
    """
    scenes, index = all_scenes(), 0
    while True:
        made = seed_for("reward learning", kind, seed, index)
        clip = damaged_clip(scenes[made % len(scenes)], made, vae)
        if kind != "pictures" or clip.temporal == 1:
            yield clip
        index += 1


def labelled(kind: str, count: int, seed: int, folder: Path) -> list[Labelled]:
    """``count`` 'pictures', 'clips' or 'pairs', written to ``folder``; all of them follow from ``seed``."""
    folder.mkdir(parents=True, exist_ok=True)
    vae = shipped_vae()
    if kind == "pairs":
        pairs = clip_pairs(count, seed_for("reward learning", seed), vae)
        return [_pair(pair, (folder / f"{n}_{seed}a.mp4", folder / f"{n}_{seed}b.mp4")) for n, pair in enumerate(pairs)]
    write, suffix = (_picture, "png") if kind == "pictures" else (_clip, "mp4")
    made = damaged_clips(kind, seed, vae)
    return [write(next(made), folder / f"{n}_{seed}.{suffix}") for n in range(count)]


def write_datasets(folder: Path, train: int, held_out: int, each: Callable[..., Iterable] = map) -> None:
    """KonIQ-10k of pictures, LSVQ of clips, and VisionRewardDB-Video with MonetBench of pairs; once.

    ``shuffled`` is LSVQ's held-out part with its frames shuffled, under the scores of the clips as they were. ``each``
    maps as ``map`` does, maybe side by side.
    """
    if folder.exists():
        return
    with atomic_path(folder) as root:
        kinds = {"pairs": _write_pairs, "clips": _write_lsvq, "pictures": _write_koniq}
        made = [(kind, count, seed, root / kind) for kind in kinds for count, seed in ((train, 1), (held_out, 4))]
        parts = [[one.item for one in part] for part in each(labelled, *zip(*made, strict=True))]
        for index, write in enumerate(kinds.values()):
            write(root, *parts[2 * index : 2 * index + 2])


def write_csv(path: Path, *rows: Sequence) -> None:
    """Write ``rows`` to ``path``, the header first."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _write_koniq(root: Path, train: list[ScoredClip], test: list[ScoredClip]) -> None:
    rows = [
        (Path(item.path).name, item.scores["overall"], name)
        for name, items in (("training", train), ("test", test))
        for item in items
    ]
    write_csv(root / "pictures" / "koniq10k_distributions_sets.csv", ("image_name", "MOS", "set"), *rows)


def _write_lsvq(root: Path, train: list[ScoredClip], test: list[ScoredClip]) -> None:
    rows = [(Path(i.path).stem, i.scores["overall"], held) for held, part in enumerate((train, test)) for i in part]
    write_csv(root / "clips" / "labels_train_test.csv", ("name", "mos", "is_test"), *rows)
    (root / "shuffled").mkdir()
    for index, item in enumerate(test):
        frames = global_shuffle(read_video(item.path).frames, np.random.default_rng(index))
        write_video(root / "shuffled" / Path(item.path).name, frames, FPS)
    write_csv(root / "shuffled" / "labels_train_test.csv", ("name", "mos", "is_test"), *rows[len(train) :])


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
    described: Sequence[Labelled],
    answered: Sequence[Labelled],
    output: Path,
    *,
    steps: int,
    seed: int,
    answer_share: float = 0.06,
    batch_size: int = 24,
) -> None:
    """The shipped judge after a supervised lesson before GRPO, written to ``output``.

    It learns to say in a thought what ``described`` show, and from the few ``answered``, in ``answer_share`` of the
    rows, what an answer after it looks like: more would teach it the scores by heart. What to answer is left to the
    rewards.
    """
    torch.manual_seed(seed)
    processor = AutoProcessor.from_pretrained(resolve(SHIPPED))
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(resolve(SHIPPED), dtype=torch.float32).train()
    videos = 2 * (len(described) + len(answered))
    encoder, rng = ShowingEncoder(processor, PROMPT.num_frames, keep=videos), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-4, total_steps=steps, pct_start=0.1)
    for _ in track(range(steps), "learning to describe"):
        rows, goals = [], []
        for whole in rng.random(batch_size) < answer_share:
            source = answered if whole else described
            lesson = source[rng.integers(len(source))]
            said = processor.tokenizer(lesson.thought + (f"{lesson.answer}<|im_end|>" if whole else "")).input_ids
            showing = encoder.showing(question_about(lesson.item, SCALE, WORDING, Prompts(PROMPT)).messages)
            rows.append(replace(showing, ids=showing.ids + said))
            goals.append(said)
        loss = _next_token_loss(model, encoder.collate(rows, pixels=True), goals)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with atomic_path(output) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        PROMPT.save(temporary)


def _next_token_loss(model: nn.Module, inputs: dict[str, Tensor], goals: Sequence[list[int]]) -> Tensor:
    """Cross entropy of the last tokens of every row, which are ``goals``."""
    logits, labels = model(**inputs, use_cache=False).logits[:, :-1], inputs["input_ids"][:, 1:].clone()
    for row, said in enumerate(goals):
        labels[row, : -len(said)] = -100
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)

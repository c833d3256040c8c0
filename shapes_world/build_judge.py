"""Train the tiny judge from nothing: describe one clip, then compare two in words; GRPO comes after (``build``).

Trained straight on "1 or 2" so small a model stays at chance, and trained to compare from the start it copies the
prompt instead of looking. So it first learns to describe single clips without their prompt.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from reward_model.prompts import JudgePrompt, VideoPrompt
from shapes_world.judge_data import ClipPair, DamagedClip, clip_pairs, reasoning
from shapes_world.tokenizers import CHAT_TEMPLATE, judge_tokenizer
from shapes_world.world import FPS, NUM_FRAMES, SIZE
from videoduet.progress import console, track
from videoduet.store import atomic_path

PATCH, MERGE = 4, 2
PROMPT = JudgePrompt(
    system=None, before_first="1", before_second="2", question="{prompt}", num_frames=NUM_FRAMES, max_new_tokens=72
)
DESCRIBE = VideoPrompt(system=None, before="", question="describe", num_frames=NUM_FRAMES, max_new_tokens=24)


@dataclass(frozen=True)
class JudgeBuild:
    """How long each stage trains. The defaults make the shipped weights; a test runs all stages with a few steps."""

    seed: int = 0
    pairs: int = 8000
    describe_steps: int = 1500
    compare_steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 1.5e-3


def new_processor(pairs: list[ClipPair]) -> Qwen2_5_VLProcessor:
    """Tokenizer, video and image processor of the tiny judge."""
    corpus = [reasoning(pair.first, pair.second, pair.prompt) for pair in pairs[:2000]]
    corpus += [pair.prompt.prompt for pair in pairs[:2000]] + ["user assistant system describe "] * 200
    size = {"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE}
    kind = {"size": size, "patch_size": PATCH, "merge_size": MERGE}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**kind),
        tokenizer=judge_tokenizer(corpus),
        video_processor=Qwen2VLVideoProcessor(**kind, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )


def new_judge(processor: Qwen2_5_VLProcessor, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A random Qwen2.5-VL of about a million parameters."""
    torch.manual_seed(seed)
    token = processor.tokenizer.convert_tokens_to_ids
    text = dict(
        vocab_size=len(processor.tokenizer), hidden_size=128, intermediate_size=320, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        bos_token_id=token("<|endoftext|>"), eos_token_id=token("<|im_end|>"), pad_token_id=token("<|endoftext|>"),
    )  # fmt: skip
    vision = dict(
        depth=2, hidden_size=64, intermediate_size=160, num_heads=4, out_hidden_size=128, patch_size=PATCH,
        spatial_merge_size=MERGE, temporal_patch_size=2, window_size=SIZE, fullatt_block_indexes=[0, 1],
        tokens_per_second=4,
    )  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"), vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = token("<|endoftext|>")
    model.generation_config.suppress_tokens = [
        token(name) for name in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>")
    ]
    return model


class Lessons:
    """Clips as patches, made once, and the batches of text around them."""

    def __init__(self, processor: Qwen2_5_VLProcessor, pairs: list[ClipPair]):
        self.tokenizer, self.processor, self.pairs = processor.tokenizer, processor, pairs
        self.clips: list[DamagedClip] = [clip for pair in pairs for clip in (pair.first, pair.second)]
        patches = []
        for start in range(0, len(self.clips), 64):
            videos = [torch.from_numpy(clip.frames).permute(0, 3, 1, 2) for clip in self.clips[start : start + 64]]
            values = processor.video_processor(videos, return_tensors="pt", return_metadata=False)[
                "pixel_values_videos"
            ]
            patches.append(values.view(len(videos), -1, values.shape[-1]).half())
        self.patches = torch.cat(patches)
        self.grid = torch.tensor([NUM_FRAMES // 2, SIZE // PATCH, SIZE // PATCH])
        tokens = int(self.grid.prod()) // MERGE**2
        self.pad, self.pads = "<|video_pad|>", "<|video_pad|>" * tokens
        self.video_id = self.tokenizer.convert_tokens_to_ids("<|video_pad|>")
        self.answer_ids = {self.tokenizer.convert_tokens_to_ids(label) for label in PROMPT.labels}

    def description(self, index: int) -> tuple[list[dict], str, list[int]]:
        """Messages that ask what clip ``index`` shows, the answer, and the clip's row."""
        return DESCRIBE.messages("", ""), self.clips[index].description, [index]

    def comparison(self, index: int, swap: bool) -> tuple[list[dict], str, list[int]]:
        """Messages that ask which clip of pair ``index`` is better (shown the other way round for ``swap``), the
        answer, and the clips' rows in the order of showing.
        """
        pair, rows = self.pairs[index], [2 * index, 2 * index + 1]
        first, second = (pair.second, pair.first) if swap else (pair.first, pair.second)
        text = reasoning(first, second, pair.prompt)
        return PROMPT.messages(pair.prompt.prompt, "", ""), text, rows[::-1] if swap else rows

    def batch(self, lessons: list[tuple[list[dict], str, list[int]]]) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs, and the weight of each token in the loss: 0 in questions, 1 in answers, more for the verdict."""
        ids, weights, rows = [], [], []
        for messages, answer, videos in lessons:
            question = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            question_ids = self.tokenizer(question.replace(self.pad, self.pads)).input_ids
            answer_ids = self.tokenizer(answer + "<|im_end|>").input_ids
            weight = [1.0] * len(answer_ids)
            if answer.endswith("</answer>"):
                weight[-3] = 4.0
            ids.append(question_ids + answer_ids)
            weights.append([0.0] * len(question_ids) + weight)
            rows += videos
        length = max(map(len, ids))
        input_ids = torch.tensor([[self.tokenizer.pad_token_id] * (length - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        weight = torch.tensor([[0.0] * (length - len(row)) + row for row in weights])
        inputs = {
            "input_ids": input_ids,
            "attention_mask": mask,
            "mm_token_type_ids": 2 * (input_ids == self.video_id).int(),
            "pixel_values_videos": self.patches[rows].flatten(0, 1).float(),
            "video_grid_thw": self.grid.repeat(len(rows), 1),
            "second_per_grid_ts": torch.full((len(rows),), 2 / FPS),
        }
        return inputs, weight


def _train(model: nn.Module, lessons: Lessons, steps: int, build: JudgeBuild, compare_share: float, title: str) -> None:
    """Next-token training on descriptions and comparisons, in shares, with a one-cycle learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=build.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, build.learning_rate, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng(build.seed)
    model.train()
    for step in track(range(steps), title):
        if rng.random() < compare_share:
            rows = rng.integers(len(lessons.pairs), size=build.batch_size // 2)
            inputs, weight = lessons.batch([lessons.comparison(int(row), bool(rng.integers(2))) for row in rows])
        else:
            rows = rng.integers(len(lessons.clips), size=build.batch_size)
            inputs, weight = lessons.batch([lessons.description(int(row)) for row in rows])
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        goal, weight = inputs["input_ids"][:, 1:], weight[:, 1:]
        losses = F.cross_entropy(logits.transpose(1, 2), goal, reduction="none")
        loss = (losses * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            # Answers of one kind are aligned at the right edge, so a column is a word of the description or the
            # verdict.
            kind = "verdict" if weight.max() > 1 else "words"
            right = (logits.argmax(-1) == goal).float().mean(0)
            columns = [-3] if kind == "verdict" else [-10, -9, -8, -7, -6, -4, -2]
            shares = " ".join(f"{float(right[column]):.2f}" for column in columns)
            console.print(f"{title}: step {step}, loss {loss.item():.3f}, right {kind} {shares}")
    model.eval()


def teach_description(
    build: JudgeBuild, vae: AutoencoderKL, output: Path, pairs: list[ClipPair] | None = None
) -> None:  # fmt: skip
    """The first stage, from nothing: put single clips into words. Writes model and processor, unless they are there.

    ``pairs`` hold the clips (None: those that ``build`` and ``vae`` make).
    """
    if output.exists():
        return
    pairs = pairs or clip_pairs(build.pairs, build.seed, vae)
    processor = new_processor(pairs)
    model = new_judge(processor, build.seed)
    _train(model, Lessons(processor, pairs), build.describe_steps, build, 0.0, "judge learns to describe")
    with atomic_path(output) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)


def teach_comparison(
    build: JudgeBuild, vae: AutoencoderKL, output: Path, described: Path, pairs: list[ClipPair] | None = None
) -> None:  # fmt: skip
    """The second stage, on from ``described``: compare two clips in words. Writes model, processor and prompt."""
    processor = Qwen2_5_VLProcessor.from_pretrained(described)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(described)
    lessons = Lessons(processor, pairs or clip_pairs(build.pairs, build.seed, vae))
    _train(model, lessons, build.compare_steps, build, 0.75, f"judge {build.seed} learns to compare")
    with atomic_path(output) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        PROMPT.save(temporary)
        DESCRIBE.save(temporary, "describe")

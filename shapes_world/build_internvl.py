"""Train the tiny InternVL by the supervised stage of this project: describe clips, and score them.

It sees frames one by one, and has no motion token: what that adds, ``benchmarks.motion`` measures in a stage after it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import (
    AutoTokenizer,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2_5_VLForConditionalGeneration,
    TrainingArguments,
)

from reward_model.encoding import ShowingEncoder
from reward_model.families.convert import CHAT_TEMPLATE, SPECIAL
from reward_model.prompts import VideoPrompt
from reward_model.released_frames import MEAN, STD
from reward_model.training.checkpoints import Marks, last_checkpoint
from reward_model.training.sft import AnswerTrainer, answer_text
from shapes_world.judge_data import DamagedClip, damaged_clip
from shapes_world.tokenizers import judge_tokenizer
from shapes_world.world import FPS, NUM_FRAMES, SIZE, all_scenes
from videoduet.config import resolve
from videoduet.progress import console, track, track_steps
from videoduet.seeding import seed_for
from videoduet.store import atomic_path, read_json, write_json
from videoduet.video import write_video

JUDGE = "shapes_world/models/judge"
"""Whose language model it has."""
PATCH = 8
"""Pixels: 16 patches a frame, and four tokens."""
SCALE = (0.0, 10.0)
PART = 250
"""Clips that are made, and told of, at a time."""
_ASKED: dict[str, Any] = {"system": None, "before": "", "num_frames": NUM_FRAMES, "max_new_tokens": 24}
DESCRIBE = VideoPrompt(question="describe", **_ASKED)
SCORE = VideoPrompt(question="score", scale=SCALE, **_ASKED)


@dataclass(frozen=True)
class InternVLBuild:
    """How long it trains; the defaults make the shipped weights."""

    seed: int = 0
    clips: int = 3000
    steps: int = 360
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    score_share: float = 0.3


def clips_of(name: str, seed: int, vae: AutoencoderKL, first: int = 0) -> Iterator[DamagedClip]:
    """Damaged clips without end, from the ``first`` on, that follow from ``name`` and ``seed``."""
    scenes = all_scenes()
    for index in itertools.count(first):
        made = seed_for(name, seed, index)
        yield damaged_clip(scenes[made % len(scenes)], made, vae)


@dataclass(frozen=True)
class Shown:
    """A clip in a file, what a judge should say that it shows, and how good it is as a whole."""

    path: str
    description: str
    score: float


def shown_clips(build: InternVLBuild, vae: AutoencoderKL, folder: Path) -> list[Shown]:
    """The clips that are learnt from, in ``folder``; those that lie there are not made again."""
    found: list[Shown] = []
    for first in track(range(0, build.clips, PART), "clips"):
        if not (kept := folder / f"{first:05d}.json").exists():
            made = itertools.islice(clips_of("internvl", build.seed, vae, first), min(PART, build.clips - first))
            rows: list[dict[str, Any]] = []
            for index, clip in enumerate(made, first):
                path = folder / f"{index:05d}.mp4"
                write_video(path, clip.frames, FPS)
                score = SCALE[1] * (clip.spatial + clip.temporal) / 2
                rows.append({"path": str(path), "description": clip.description, "score": score})
            write_json(kept, rows)
        found += [Shown(**row) for row in read_json(kept)]
    return found


def new_processor(descriptions: list[str]) -> InternVLProcessor:
    """Tokenizer, image and video processor of the tiny InternVL."""
    corpus = descriptions[:2000] + [f"{number / 100:.2f}" for number in range(1001)]
    corpus += [scene.prompt for scene in all_scenes()]
    corpus += ["user assistant system describe score steady clear Motion Feature: Frame1: Frame2: Frame8:"] * 200
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=judge_tokenizer(corpus).backend_tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        padding_side="left", extra_special_tokens=SPECIAL,
    )  # fmt: skip
    shown: dict[str, Any] = {"size": {"height": SIZE, "width": SIZE}, "image_mean": list(MEAN), "image_std": list(STD)}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**shown, crop_to_patches=False), tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**shown), image_seq_length=(SIZE // PATCH // 2) ** 2,
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def new_internvl(processor: InternVLProcessor, seed: int) -> InternVLForConditionalGeneration:
    """An InternVL of 900 thousand parameters: a random vision tower before the language model of the tiny judge, as
    InternVL was put before a Qwen2.5. Words that the judge did not know are drawn at random.
    """
    judge: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(resolve(JUDGE), dtype=torch.float32)
    tokenizer: Any = processor.tokenizer
    known = AutoTokenizer.from_pretrained(resolve(JUDGE)).get_vocab()
    token, plain = tokenizer.convert_tokens_to_ids, judge.config.get_text_config()
    kept = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "rms_norm_eps", "max_position_embeddings")  # fmt: skip
    text = dict(
        model_type="qwen2", vocab_size=len(tokenizer), tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": plain.rope_parameters["rope_theta"]},
        **{name: getattr(plain, name) for name in kept},
    )  # fmt: skip
    vision = dict(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=160, image_size=[SIZE, SIZE],
        patch_size=[PATCH, PATCH], attention_bias=True,
    )  # fmt: skip
    config = InternVLConfig(
        text_config=text, vision_config=vision, image_token_id=token("<IMG_CONTEXT>"),
        image_seq_length=(SIZE // PATCH // 2) ** 2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    model: Any = InternVLForConditionalGeneration(config)
    state = judge.model.language_model.state_dict()
    table, words = model.get_input_embeddings().weight.detach().clone(), state["embed_tokens.weight"]
    table *= words.std() / table.std()
    for word, row in tokenizer.get_vocab().items():
        if word in known:
            table[row] = words[known[word]]
    model.model.language_model.load_state_dict({**state, "embed_tokens.weight": table})
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.suppress_tokens = [token(name) for name in (*SPECIAL.values(), "<|im_start|>")]
    return model


def lessons(clips: list[Shown], build: InternVLBuild) -> list[dict[str, Any]]:
    """Rows for :class:`AnswerTrainer`, in the order of learning: descriptions, and scores of quality as a whole."""
    rng, rows = np.random.default_rng(build.seed), []
    for index in rng.integers(len(clips), size=build.steps * build.batch_size):
        clip = clips[index]
        if rng.random() < build.score_share:
            answer = answer_text({"kind": "score", "target": clip.score}, ("1", "2"))
            rows.append({"prompt": SCORE.messages("", clip.path), "answer": answer})
        else:
            rows.append({"prompt": DESCRIBE.messages("", clip.path), "answer": clip.description})
    return rows


def teach_internvl(build: InternVLBuild, vae: AutoencoderKL, output: Path, work: Path) -> None:
    """Train it and write it to ``output``, in half precision with what it is asked, unless it is there; clips and
    checkpoints go to ``work``, where an interrupted training goes on.
    """
    if output.exists():
        return
    clips = shown_clips(build, vae, work / "clips")
    processor = new_processor([clip.description for clip in clips])
    model = new_internvl(processor, build.seed)
    with track_steps("InternVL learns to describe and score") as show:
        trainer = AnswerTrainer(
            model=model, args=_arguments(build, work / "checkpoints"), train_dataset=lessons(clips, build),
            callbacks=[Marks(lambda step: show({"step": step, "steps": build.steps}))],
            encoder=ShowingEncoder.for_view(processor, DESCRIBE.view),
        )  # fmt: skip
        trainer.encoder.keep = len(clips)
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(work / "checkpoints"))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    console.print(f"InternVL: loss {losses[0]:.3f} to {losses[-1]:.3f}")
    with atomic_path(output) as temporary:
        model.half().save_pretrained(temporary)
        processor.save_pretrained(temporary)
        # Without the line breaks, which are a third of it.
        processor.tokenizer.backend_tokenizer.save(str(temporary / "tokenizer.json"), pretty=False)
        DESCRIBE.save(temporary, "describe")
        SCORE.save(temporary, "score")


def _arguments(build: InternVLBuild, work: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(work), per_device_train_batch_size=build.batch_size, max_steps=build.steps,
        learning_rate=build.learning_rate, lr_scheduler_type="cosine", warmup_steps=max(1, build.steps // 20),
        adam_beta2=0.98, weight_decay=0.01, save_steps=60, save_total_limit=2, logging_steps=1, report_to=[],
        disable_tqdm=True, use_cpu=True, remove_unused_columns=False, seed=build.seed, log_level="error",
    )  # fmt: skip

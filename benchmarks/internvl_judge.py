"""InternVL with random weights for ``benchmarks.judging``: of the tiny judge's size, or of InternVL3-8B's."""

from typing import Any

import torch
from transformers import (
    AutoProcessor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
)

from reward_model import Judge
from reward_model.families.convert import CHAT_TEMPLATE, SPECIAL
from reward_model.prompts import JudgePrompt
from reward_model.released_frames import MEAN, STD

SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "small": (
        dict(hidden_size=128, intermediate_size=320, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2),
        dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, image_size=[32, 32],
             patch_size=[4, 4]),
    ),
    "real": (
        dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
             num_key_value_heads=4, vocab_size=151674),
        dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
             image_size=[448, 448], patch_size=[14, 14]),
    ),
}  # fmt: skip
"""Language model and vision tower, by size: as wide as the tiny judge that ships, and InternVL3-8B's."""


def random_internvl(size: str, tiny: str, device: str, prompt: JudgePrompt, batch_size: int) -> Judge:
    """A judge of random weights that asks in ``prompt``, with the words of the judge at ``tiny``."""
    words = AutoProcessor.from_pretrained(tiny).tokenizer.backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        extra_special_tokens=SPECIAL,
    )  # fmt: skip
    text, vision = SIZES[size]
    token: Any = tokenizer.convert_tokens_to_ids
    side = vision["image_size"][0]
    cells = (side // vision["patch_size"][0] // 2) ** 2
    shown: dict[str, Any] = {"size": {"height": side, "width": side}, "image_mean": list(MEAN), "image_std": list(STD)}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**shown, crop_to_patches=False), tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**shown), image_seq_length=cells, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    config = InternVLConfig(
        text_config={
            "model_type": "qwen2", "vocab_size": len(tokenizer), "max_position_embeddings": 32768,
            "pad_token_id": tokenizer.pad_token_id, **text,
        },
        vision_config={**vision, "attention_bias": True}, image_token_id=token("<IMG_CONTEXT>"),
        image_seq_length=cells, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16 if size == "real" else torch.float32)
        model = InternVLForConditionalGeneration(config)
        torch.set_default_dtype(torch.float32)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # Each answer is as long as it may be, of the tokenizer's words, as in the other family's benchmark.
    model.generation_config.eos_token_id = None
    silent = [token(name) for name in (*SPECIAL.values(), "<|im_start|>")]
    model.generation_config.suppress_tokens = sorted({*silent, *range(len(tokenizer), text.get("vocab_size", 0))})
    return Judge(model, processor, prompt, judge_id=f"random InternVL, {size}", batch_size=batch_size)

"""A very small Qwen3-VL with random weights and its real processor, as transformers saves it."""

from pathlib import Path

import torch
from transformers import (
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from shapes_world.tokenizers import CHAT_TEMPLATE, judge_tokenizer


def write_qwen3(directory: Path) -> None:
    tokenizer = judge_tokenizer(["a red circle is better <0.5 seconds> 1 2 first second"] * 50)
    token = tokenizer.convert_tokens_to_ids
    text = dict(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=2048, pad_token_id=token("<|endoftext|>"),
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1],
                         "mrope_interleaved": True},
    )  # fmt: skip
    vision = dict(
        depth=3, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=32, num_position_embeddings=64,
        deepstack_visual_indexes=[0, 1], patch_size=8, spatial_merge_size=2, temporal_patch_size=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3VLForConditionalGeneration(
            Qwen3VLConfig(
                text_config=text, vision_config=vision, image_token_id=token("<|image_pad|>"),
                video_token_id=token("<|video_pad|>"), vision_start_token_id=token("<|vision_start|>"),
                vision_end_token_id=token("<|vision_end|>"),
            )
        )  # fmt: skip
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter *= 4  # else random weights hardly look
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = token("<|endoftext|>")
    size = {"shortest_edge": 16 * 16, "longest_edge": 16 * 32 * 32}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=8, size={"shortest_edge": 256, "longest_edge": 1024}),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(patch_size=8, merge_size=2, size=size, do_sample_frames=False),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(directory)
    model.save_pretrained(directory)

"""A very small InternVL with random weights and its real processor, as transformers saves it."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
)

from reward_model.families.convert import CHAT_TEMPLATE, SPECIAL
from reward_model.families.sense import put_motion
from reward_model.motion import MotionProjector, SlowFast, SlowFastNetwork
from shapes_world.tokenizers import judge_tokenizer


def small_tokenizer(words: Tokenizer | None = None) -> PreTrainedTokenizerFast:
    """The tests' words, with InternVL's own tokens."""
    if words is None:
        words = judge_tokenizer(["a red circle is better 1 2 first second Frame1: Frame2:\n"] * 50).backend_tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        extra_special_tokens=SPECIAL,
    )  # fmt: skip


def small_model(tokenizer: PreTrainedTokenizerFast, **text: object) -> InternVLForConditionalGeneration:
    token = tokenizer.convert_tokens_to_ids
    language = dict(
        model_type="qwen2", vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096, pad_token_id=token("<|endoftext|>"),
    ) | text  # fmt: skip
    vision = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=[32, 32],
        patch_size=[8, 8], attention_bias=True,
    )  # fmt: skip
    config = InternVLConfig(
        text_config=language, vision_config=vision, image_token_id=token("<IMG_CONTEXT>"), image_seq_length=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = InternVLForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter *= 4  # else random weights hardly look
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = token("<|endoftext|>")
    return model.eval()


def small_processor(tokenizer: PreTrainedTokenizerFast) -> InternVLProcessor:
    size = {"height": 32, "width": 32}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=False),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=CHAT_TEMPLATE,
    )


def write_internvl(directory: Path, **text: object) -> None:
    tokenizer = small_tokenizer()
    small_processor(tokenizer).save_pretrained(directory)
    small_model(tokenizer, **text).save_pretrained(directory)


def write_moving(directory: Path) -> None:
    """The same with a sense of motion, random and for frames of 32 pixels."""
    tokenizer = small_tokenizer()
    small_processor(tokenizer).save_pretrained(directory)
    model = small_model(tokenizer)
    give_small_motion(model)
    model.save_pretrained(directory)


def give_small_motion(model: torch.nn.Module) -> None:
    """A random SlowFast and a projector into ``model``, whose token is as large as another's."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        slowfast = SlowFast(SlowFastNetwork((4, 2), depths=(1, 1, 1, 1)), window=1)
        projector = MotionProjector(slowfast.dim, model.config.get_text_config().hidden_size)
    with torch.no_grad():
        projector[3].weight *= 4
    put_motion(model, slowfast, projector)

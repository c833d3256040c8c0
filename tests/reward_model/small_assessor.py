"""A very small AIGV-Assessor with random weights: the small InternVL with motion, four heads, and pair networks."""

from dataclasses import replace
from pathlib import Path

import torch
from small_internvl import give_small_motion, small_model, small_processor, small_tokenizer

from reward_model.families.convert_assessor import CHAT_TEMPLATE
from reward_model.families.pairs import PairNetworks, put_pairs
from reward_model.families.scores import ScoreHeads, put_heads
from reward_model.presets import ASSESSED, ASSESSMENT
from shapes_world.tokenizers import judge_tokenizer

WORDS = [
    "How would you rate the static quality of this video? The temporal smoothness dynamic degree text-video "
    "correspondence of the video is bad poor fair good excellent . Frame1: Frame2:\nMotion Feature: a red circle"
] * 50
PROMPT = replace(ASSESSMENT, system=None, num_frames=4, max_pixels=32 * 32, question="{prompt} {dimension} ?")


def write_assessor(directory: Path, *, heads: bool = True, pairs: bool = True) -> Path:
    tokenizer = small_tokenizer(judge_tokenizer(WORDS).backend_tokenizer)
    processor = small_processor(tokenizer)
    processor.chat_template = CHAT_TEMPLATE
    processor.save_pretrained(directory)
    model = small_model(tokenizer)
    give_small_motion(model)
    model.config.score_dimensions = list(ASSESSED)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        if heads:
            put_heads(model, ScoreHeads.new(32, len(ASSESSED), (8,)), ASSESSED)
        if pairs:
            put_pairs(model, PairNetworks.new(model, len(ASSESSED), 8))
    model.save_pretrained(directory)
    PROMPT.save(directory, "score")
    return directory

"""Models that several rooms' tests share. No test may touch the network."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Each of pytest-xdist's workers has its share of the cores, and so has what it starts: threads that outnumber the cores
# are slower by far than one thread. Set in workers alone, as they inherit what their parent sets.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
# A console that was made with a width keeps it, whatever a test says later; xdist's workers are given one.
os.environ.pop("COLUMNS", None), os.environ.pop("LINES", None)

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from shapes_world.tokenizers import CLIP_LENGTH, clip_tokenizer


@pytest.fixture(scope="module", autouse=True)
def _what_was_imported_is_kept() -> Iterator[None]:
    """The libraries are a million objects: going through them at each collection was a tenth of the suite's time."""
    gc.collect()
    gc.freeze()
    yield


@pytest.fixture(scope="session")
def shipped_generator() -> Path:
    """The tiny generator that ships: a T2V-Turbo."""
    return Path(__file__).parent.parent / "shapes_world" / "models" / "generator"


@pytest.fixture(scope="session")
def modelscope_directory(tmp_path_factory) -> Path:
    """A random ``TextToVideoSDPipeline`` of 16 x 16 pixels, as diffusers saves it."""
    tokenizer = clip_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=CLIP_LENGTH, eos_token_id=tokenizer.eos_token_id,
            )
        )  # fmt: skip
        unet = UNet3DConditionModel(
            sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, cross_attention_dim=16,
            attention_head_dim=8, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
            up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, sample_size=16,
        )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
    )
    path = tmp_path_factory.mktemp("models") / "modelscope"
    TextToVideoSDPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
    ).save_pretrained(path)
    return path

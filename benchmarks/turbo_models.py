"""T2V-Turbo at real size, with random weights: what benchmarks run that need no trained model."""

import torch
from diffusers import AutoencoderKL, LCMScheduler, UNet3DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from generators.families.t2v_turbo import T2VTurboPipeline
from shapes_world.tokenizers import clip_tokenizer

UNET = {"sample_size": (40, 64), "time_cond_proj_dim": 256}
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}  # fmt: skip
TEXT = {
    "vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
    "num_attention_heads": 16, "max_position_embeddings": 77, "hidden_act": "gelu", "pad_token_id": 0,
    "bos_token_id": 49406, "eos_token_id": 49407,
}  # fmt: skip


def random_weights(model: nn.Module, seed: int = 0) -> nn.Module:
    """``model`` with normal weights of the size that keeps activations about 1, drawn on its device."""
    device = next(model.parameters()).device
    rng = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            fan_in = value[0].numel() if value.ndim > 1 else 1
            if value.ndim > 1:
                value.normal_(0, fan_in**-0.5, generator=rng)
            else:
                value.fill_(1.0 if name.endswith("weight") else 0.0)
    return model.eval()


def real_size_turbo(device: str, dtype: torch.dtype) -> T2VTurboPipeline:
    """T2V-Turbo of 1.4 billion parameters for 16 x 320 x 512, its autoencoder and text encoder, random."""
    with torch.device(device):
        unet = random_weights(UNet3DConditionModel(**UNET).to(dtype))
        vae = random_weights(AutoencoderKL(**VAE).to(dtype))
        text_encoder = random_weights(CLIPTextModel(CLIPTextConfig(**TEXT)).to(dtype))
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 77
    return T2VTurboPipeline(vae, text_encoder, tokenizer, unet, LCMScheduler(), fps=16)

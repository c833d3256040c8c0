"""Random tiny models of the real architectures, saved as their pipelines save themselves."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UNet3DConditionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from generators.families.videocrafter2 import VideoCrafter2Pipeline
from shapes_world.tokenizers import CLIP_LENGTH, clip_tokenizer

WIDTH = 16


def t5_tokenizer(length: int) -> T5TokenizerFast:
    """T5's tokenizer over letters: unigrams, the end of the text as the last token."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((letter, -2.0) for letter in "abcdefghijklmnopqrstuvwxyz")], 2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0, model_max_length=length)


def t5_encoder(words: int, **config) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=words, d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2, **config)
    )


def clip_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, sample_size=16,
    )  # fmt: skip


def videocrafter2(path: Path) -> Path:
    tokenizer = clip_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=CLIP_LENGTH, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    unet = UNet3DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, cross_attention_dim=WIDTH,
        attention_head_dim=8, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    VideoCrafter2Pipeline(clip_vae(), text_encoder, tokenizer, unet, scheduler).save_pretrained(path)
    return path


def _wan_transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=WIDTH, freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip


def wan(path: Path, *, experts: bool = False, expand_timesteps: bool = False) -> Path:
    tokenizer = t5_tokenizer(512)
    text_encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.0, 0.3], latents_std=[1.5, 2.0, 1.0, 0.8],
    )  # fmt: skip
    WanPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=_wan_transformer(),
        transformer_2=_wan_transformer() if experts else None, boundary_ratio=0.875 if experts else None,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        expand_timesteps=expand_timesteps,
    ).save_pretrained(path)  # fmt: skip
    return path


def cogvideox(path: Path, *, version: str = "1.0") -> Path:
    tokenizer = t5_tokenizer(64)
    patch_size_t = 2 if version == "1.5" else None
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=WIDTH, num_layers=2, sample_width=4, sample_height=4, sample_frames=9, patch_size=2,
        patch_size_t=patch_size_t, max_text_seq_length=64, use_rotary_positional_embeddings=version == "1.5",
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1,
        norm_num_groups=2, temporal_compression_ratio=4, sample_height=32, sample_width=32,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    )  # fmt: skip
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    CogVideoXPipeline(
        tokenizer=tokenizer, text_encoder=t5_encoder(len(tokenizer)), vae=vae, transformer=transformer,
        scheduler=scheduler,
    ).save_pretrained(path)  # fmt: skip
    return path


def ltx(path: Path) -> Path:
    tokenizer = t5_tokenizer(128)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=1, patch_size_t=1, num_attention_heads=2, attention_head_dim=16,
        cross_attention_dim=32, num_layers=2, caption_channels=WIDTH,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1), patch_size=4, patch_size_t=1,
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False), timestep_conditioning=False,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096
    )
    LTXPipeline(
        scheduler=scheduler, vae=vae, text_encoder=t5_encoder(len(tokenizer)), tokenizer=tokenizer,
        transformer=transformer,
    ).save_pretrained(path)  # fmt: skip
    return path


FAMILIES = {
    "videocrafter2": (videocrafter2, {"num_frames": 3, "steps": 2}),
    "wan": (wan, {"num_frames": 5, "height": 16, "width": 32, "steps": 2}),
    "wan22_experts": (lambda path: wan(path, experts=True), {"num_frames": 5, "height": 16, "width": 32, "steps": 3}),
    "wan22_5b": (
        lambda path: wan(path, expand_timesteps=True), {"num_frames": 5, "height": 16, "width": 32, "steps": 2}
    ),
    "cogvideox": (cogvideox, {"steps": 2}),
    "cogvideox15": (lambda path: cogvideox(path, version="1.5"), {"num_frames": 9, "steps": 2}),
    "ltx": (ltx, {"num_frames": 9, "height": 32, "width": 64, "steps": 2}),
}  # fmt: skip
"""How to make each family's directory, and sampler settings that are quick."""


def make(name: str, folder: Path) -> Path:
    """The directory of family ``name`` below ``folder``, with weights that depend on nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FAMILIES[name][0](folder / name)

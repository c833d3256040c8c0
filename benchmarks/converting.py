"""Memory that converting a judge of full size takes: ``python -m benchmarks.converting [--layers 28]``.

A release of VQAThinker's shapes (InternVL3-8B, SlowFast-R50, the projector) in bfloat16 zeros is laid out as sparse
files, 16 GB of them, and converted by ``pipelines.convert_judge vqathinker`` in a process of its own, whose peak is
told beside the bytes of the weights. What is written takes that room; fewer ``layers`` of the language model take less.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from jsonargparse import CLI  # pyright: ignore[reportPrivateImportUsage]
from transformers import AutoModelForImageTextToText, InternVLConfig

from reward_model.families.released import piece_of
from reward_model.motion import MotionProjector, SlowFastNetwork
from shapes_world.tokenizers import judge_tokenizer
from videoduet.progress import console

SHARD = 5 * 10**9
"""Bytes of a released file."""
TEXT = {
    "model_type": "qwen2", "vocab_size": 151674, "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
    "rope_theta": 1e6, "tie_word_embeddings": False,
}  # fmt: skip
VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 448, "patch_size": 14, "qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6, "hidden_act": "gelu",
}  # fmt: skip


def released_shapes(text: dict) -> dict[str, list[int]]:
    """Names and shapes of the release's tensors."""
    config = InternVLConfig(text_config=text, vision_config={
        **{name: value for name, value in VISION.items() if name not in ("qkv_bias", "qk_normalization")},
        "attention_bias": True, "use_mean_pooling": True,
    }, tie_word_embeddings=False)  # fmt: skip
    shapes: dict[str, list[int]] = {}
    with torch.device("meta"):
        for name, value in AutoModelForImageTextToText.from_config(config).state_dict().items():
            piece = piece_of(name, config, internlm2=False)
            shapes[piece.name] = [value.shape[0] * piece.parts, *value.shape[1:]]
        motion = MotionProjector(2304, text["hidden_size"]).state_dict()
        encoder = SlowFastNetwork().state_dict()
    shapes |= {f"motion_mlp.{name}": list(value.shape) for name, value in motion.items()}
    return shapes | {
        f"slowfast_model.feature_extraction.{name.removeprefix('blocks.')}": list(value.shape)
        for name, value in encoder.items()
    }


def write_sparse(directory: Path, shapes: dict[str, list[int]]) -> int:
    """The bytes of the files in ``directory`` that hold zeros of ``shapes`` in bfloat16, of which none is written."""
    parts: list[dict[str, list[int]]] = [{}]
    for name, shape in shapes.items():
        if 2 * sum(map(_count, parts[-1].values())) > SHARD:
            parts.append({})
        parts[-1][name] = shape
    total = 0
    for number, part in enumerate(parts, 1):
        header, end = {}, 0
        for name, shape in part.items():
            start, end = end, end + 2 * _count(shape)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        with (directory / f"model-{number:05d}-of-{len(parts):05d}.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        total += end
    return total


def _count(shape: list[int]) -> int:
    return int(torch.Size(shape).numel())


def main(layers: int = 28, folder: str | None = None) -> None:
    """Convert, and tell the peak.

    Args:
        layers: Layers of the language model, of 28.
        folder: Where there is room for the result (None: the system's temporary one).
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source, text = Path(name) / "release", {**TEXT, "num_hidden_layers": layers}
        source.mkdir()
        about = {"model_type": "internvl_chat", "ps_version": "v2", "downsample_ratio": 0.5, "force_image_size": 448,
                 "llm_config": text, "vision_config": VISION}  # fmt: skip
        (source / "config.json").write_text(json.dumps(about))
        words = judge_tokenizer(["one two"]).backend_tokenizer
        words.add_special_tokens(["<IMG_CONTEXT>"])
        words.save(str(source / "tokenizer.json"))
        size, started = write_sparse(source, released_shapes(text)), time.perf_counter()
        command = [sys.executable, "-m", "pipelines.convert_judge", "vqathinker", str(source), str(Path(name) / "out")]
        subprocess.run(command, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        console.print(
            f"{size / 2**30:.2f} GiB of weights converted in {time.perf_counter() - started:.0f} s; peak of the "
            f"process {peak / 2**30:.2f} GiB, {peak / size:.2f} x (the libraries and mapped files counted)."
        )


if __name__ == "__main__":
    CLI(main, as_positional=False)

"""What cards can do and how large known models are, from ``configs/rates.yaml``: what a plan reckons with."""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from videoduet.config import PACKAGE_ROOT, resolve
from videoduet.errors import InputError

Recomputed = bool | Literal["feed_forward", "twice"]
NAMES: dict[Recomputed, str] = {False: "kept", "feed_forward": "feed_forward", True: "recomputed", "twice": "twice"}
"""What the table calls the ways of ``align.gradient_checkpointing``, the fastest first."""
KEPT = {False: (21.4, 2.1), True: (23.5, 3.5)}
"""Numbers of half precision that a transformer's layer keeps of a token, in its width and in that of its feed-forward:
plain, and widened by autocast.
"""
WHOLE = {False: (30.6, 2.35), True: (36.0, 5.0)}
"""What it holds at most while its gradients are worked out."""
TWICE = 25.0
"""That of one video without its feed-forward, in its width."""
ROWS = 8192
"""Tokens that go through a feed-forward together (:mod:`generators.fast.recomputation`)."""
TABLE = PACKAGE_ROOT / "configs" / "rates.yaml"


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU: bytes of memory, operations and bytes a second at best, dollars an hour; what of it was ``measured``: all,
    its ceilings alone (operations and bytes a second), or nothing.
    """

    name: str
    measured: Literal["all", "ceilings", "nothing"]
    memory: float
    operations: float
    bandwidth: float
    dollars: float


@dataclass(frozen=True, kw_only=True)
class GeneratorSize:
    """A generator as the table has it: see its comments. ``weights`` are those of denoiser, text encoder and
    autoencoder, in 10^9; ``unet`` is empty for a transformer.
    """

    names: list[str]
    weights: list[float]
    files: float
    passes: int
    frames: list[int]
    steps: int
    stride: list[int]
    latent: list[int]
    decode: float
    unet: dict[str, float] = field(default_factory=dict[str, float])
    layers: int = 0
    width: int = 0
    ffn: int = 0
    active: float | None = None

    def tokens(self, frames: int, height: int, width: int) -> int:
        """Positions (UNet) or tokens (transformer) of a video of that many frames and pixels."""
        time, side = self.stride
        return ((frames - 1) // time + 1) * (height // side) * (width // side)

    def forward(self, tokens: int) -> float:
        """Operations of one pass of the denoiser over a video: of the products, and of attention."""
        if self.unet:
            return self.unet["operations"] * tokens
        return 2e9 * (self.active or self.weights[0]) * tokens + 4.0 * self.layers * self.width * tokens**2

    def lora(self, rank: int) -> float:
        """Numbers of a LoRA of that rank on all that the family adapts."""
        experts = self.weights[0] / (self.active or self.weights[0])
        return rank * (self.unet.get("lora") or experts * self.layers * (18 * self.width + 2 * self.ffn))

    def drawn(self, tokens: int) -> float:
        """Bytes of activations that a pass over one video holds while nothing is learned, in half precision: a third of
        what one with recomputation holds. An estimate for transformers: a third of their layers' inputs and of what two
        layers hold, by count.
        """
        if self.unet:
            return self.unet[NAMES[True]] * tokens / 3
        return 2.0 * tokens * (self.width * self.layers + 2 * (18 * self.width + 2 * self.ffn)) / 3

    def kept(self, tokens: int, recomputed: Recomputed, videos: int = 1, *, widened: bool = False) -> float:
        """Bytes of activations that a training pass over ``videos`` holds at most, in half precision, by what is
        recomputed; ``widened``: under autocast, as over weights in fewer bits or in float32.

        Of a transformer all of it was measured on small ones (tests/pipelines/test_transformer_memory.py), none on a
        GPU: each layer keeps so many times its width and that of its feed-forward. Recomputed, its input is kept, and
        one layer is whole at a time; twice, one of one video, while inputs wait in the machine's memory.
        """
        if self.unet:
            return videos * self.unet[NAMES[recomputed]] * tokens
        number, wide = 2.0 * tokens, self.width
        of_width, of_ffn = WHOLE[widened]
        if recomputed == "twice":
            part = min(1.0, ROWS / tokens)
            return number * ((TWICE + 3 * videos) * wide + of_ffn * part * self.ffn)
        if recomputed is True:
            return videos * number * ((self.layers + of_width) * wide + of_ffn * self.ffn)
        kept, kept_ffn = KEPT[widened]
        if recomputed == "feed_forward":
            return videos * number * (self.layers * kept * wide + of_ffn * self.ffn)
        return videos * number * (self.layers * (kept * wide + kept_ffn * self.ffn) + 9 * wide)

    def latent_bytes(self, frames: int, height: int, width: int) -> float:
        """Bytes of a video's final latents, float32."""
        channels, time, side = self.latent
        return 4.0 * channels * ((frames - 1) // time + 1) * (height // side) * (width // side)


@dataclass(frozen=True, kw_only=True)
class JudgeSize:
    """A judge: weights in 10^9; of its language model the layers, key-value heads and their width, the width of tokens
    and of the feed-forward layers, and the vocabulary; tokens of an answer at most.
    """

    names: list[str]
    weights: float
    layers: int
    heads: int
    head: int
    width: int
    ffn: int
    vocabulary: int
    new_tokens: int

    @property
    def cached(self) -> float:
        """Bytes of keys and values of one token in half precision."""
        return 4.0 * self.layers * self.heads * self.head

    @property
    def read(self) -> float:
        """Bytes of a token in half precision while it is read: at the product of a feed-forward layer its two inputs
        and itself, the embedding, the residual and its norms, the query and what it found, keys, values and rotations.
        """
        return 2.0 * (3 * self.ffn + 6 * self.width + 2 * self.heads * self.head + 2 * self.head)


@cache
def table() -> dict[str, Any]:
    """The whole table."""
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


def cards() -> list[Card]:
    """All cards that are known."""
    return [Card(name=name, **row) for name, row in table()["cards"].items()]


def generator_size(path: str) -> GeneratorSize | None:
    """The known generator that ``path`` names by its last part, or by the transformer that lies there; None for
    another one.
    """
    found = _named("generators", path) or _alike(path)
    return None if found is None else GeneratorSize(**found)


def judge_size(path: str) -> JudgeSize | None:
    """The known judge that ``path`` names, or what the ``config.json`` there says, or that of an adapter's base; None
    where none is.
    """
    if found := _named("judges", path):
        return JudgeSize(**found)
    file = Path(resolve(path)) / "config.json"
    if not file.is_file():
        adapter = file.with_name("adapter_config.json")
        if not adapter.is_file():
            return None
        return judge_size(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
    config = json.loads(file.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    files = sum(shard.stat().st_size for shard in file.parent.glob("*.safetensors"))
    width = 2 if config.get("dtype", config.get("torch_dtype")) in ("bfloat16", "float16") else 4
    heads = text["num_attention_heads"]
    return JudgeSize(
        names=[path], weights=files / width / 1e9, layers=text["num_hidden_layers"],
        heads=text.get("num_key_value_heads", heads), head=text.get("head_dim") or text["hidden_size"] // heads,
        width=text["hidden_size"], ffn=text["intermediate_size"], vocabulary=text["vocab_size"], new_tokens=512,
    )  # fmt: skip


def unknown(what: str, option: str, path: str) -> InputError:
    """What is said of a model whose size nobody knows."""
    names = ", ".join(name for row in table()[what] for name in row["names"])
    return InputError(
        f"{option} {path} is neither on this disk nor known ({names}); download it, or add its sizes to {TABLE}."
    )


def _named(kind: str, path: str) -> dict[str, Any] | None:
    last = Path(path).name.lower()
    return next((row for row in table()[kind] if last in (name.lower() for name in row["names"])), None)


def _alike(path: str) -> dict[str, Any] | None:
    """The row of a transformer with the depth and width of the one that lies at ``path``."""
    file = Path(resolve(path)) / "transformer" / "config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    width = config.get("num_attention_heads", 0) * config.get("attention_head_dim", 0)
    shape = (config.get("num_layers"), width)
    return next((row for row in table()["generators"] if (row.get("layers"), row.get("width")) == shape), None)

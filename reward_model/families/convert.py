"""Write a released InternVL, or VQAThinker's judge, as a directory that transformers loads, tensor by tensor.

The release's code is never run: names and shapes are checked against transformers' model before anything is written.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
)

from reward_model.families.released import Piece, image_side, image_tokens, native_config, piece_of
from reward_model.families.sense import ENCODER, PROJECTOR, check_fit
from reward_model.families.stored import Stored
from reward_model.motion import MotionProjector, SlowFast
from reward_model.motion.network import SHRINKS
from reward_model.motion.pooling import WINDOW
from reward_model.released_frames import MEAN, STD
from videoduet.errors import InputError
from videoduet.loading import check_files, loading, some
from videoduet.progress import track
from videoduet.store import atomic_path, read_json, write_json

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 2**30
"""What goes into one file and is in memory at a time."""
MOTION = (f"{PROJECTOR}.", f"{ENCODER}.")
"""What the names of a release's motion weights begin with, here as there."""
More = Callable[[Path, InternVLConfig, InternVLProcessor], None]
"""Puts more into a directory, and says it in its config and processor."""
SPECIAL = {
    "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}  # fmt: skip
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% elif part['type'] == 'video' %}<video>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def convert(
    source: Path,
    output: Path,
    *,
    motion: bool,
    window: int | None = None,
    stored: Stored | None = None,
    more: More | None = None,
) -> None:
    """Write the release in ``source`` as the directory ``output``, which appears when it is whole.

    With ``motion`` it is VQAThinker's, whose motion encoder and projector stay, and average a ``window`` of its maps
    (None: what config.json says, else 7, or all of a smaller map). ``stored`` are its tensors (None: those
    of its files, as they are called there), and ``more`` goes into the directory. Raises InputError that names what
    ``source`` lacks, has too much, or has of another shape.
    """
    if not (source / "config.json").exists():
        raise InputError(f"{source} has no config.json; give the released directory, whole.")
    check_files(source)
    tokenizer = _tokenizer(source)
    released, stored = read_json(source / "config.json"), stored or Stored.of(source)
    internlm2 = (released.get("llm_config") or {}).get("model_type") == "internlm2"
    head = "language_model.output.weight" if internlm2 else "language_model.lm_head.weight"
    tied = head not in stored.where and bool(released["llm_config"].get("tie_word_embeddings"))
    with loading(f"{source}/config.json cannot be understood", "give the released one."):
        config = native_config(released, tied=tied)
    expected = _expected(config, tied=tied)
    pieces = {name: piece_of(name, config, internlm2) for name in expected}
    moving = [name for name in stored.where if name.startswith(MOTION)] if motion else []
    _check(source, stored, pieces, expected, moving, motion=motion)
    if motion:
        # A release of smaller frames than the usual has a smaller window, and does not say it.
        usual = min(WINDOW, -(-image_side(released) // SHRINKS))
        config.motion_window = released.get("motion_window", usual) if window is None else window
        slowfast = SlowFast.from_pretrained(source, window=config.motion_window)
        check_fit(source, slowfast, MotionProjector.from_pretrained(source), config.get_text_config().hidden_size)
        pieces |= {name: Piece(name) for name in moving}
    with atomic_path(output) as temporary:
        temporary.mkdir(parents=True)
        _write_weights(temporary, stored, pieces)
        config.image_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
        processor = _processor(released, tokenizer)
        if more is not None:
            more(temporary, config, processor)
        processor.save_pretrained(temporary)
        _generation(tokenizer).save_pretrained(temporary)
        config.architectures = ["InternVLForConditionalGeneration"]
        config.dtype = stored.dtype
        config.save_pretrained(temporary)


def add_motion(source: Path, slowfast: Path, output: Path, *, window: int | None = None, seed: int = 0) -> None:
    """Write the judge in the transformers directory ``source`` as ``output``, with the motion encoder ``slowfast``,
    whose pooling has this ``window`` (None: what stands beside it, else 7), and a projector drawn from ``seed``.

    Raises InputError where either cannot be read, or the judge has a motion encoder already.
    """
    if not (source / "config.json").exists():
        raise InputError(f"{source} has no config.json; give a judge's directory in transformers' layout.")
    stored, config = Stored.of(source), read_json(source / "config.json")
    if any(name.startswith(MOTION) for name in stored.where):
        raise InputError(f"{source} has a motion encoder already; train that, or give the judge without it.")
    with loading(f"{source}/config.json cannot be understood", "give a judge in transformers' layout."):
        width = AutoConfig.from_pretrained(source).get_text_config().hidden_size
    encoder = SlowFast.from_pretrained(slowfast, window=window)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        projector = MotionProjector(encoder.dim, width)
    parts = {PROJECTOR: projector.state_dict(), ENCODER: encoder.state_dict()}
    tensors = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
    files = {name: file.name for name, file in stored.where.items()}
    with atomic_path(output) as temporary:
        shutil.copytree(source, temporary)
        # The library would look no further than a file of this name.
        if (temporary / "model.safetensors").exists():
            (temporary / "model.safetensors").rename(temporary / "model-whole.safetensors")
            files = {name: file.replace("model.safetensors", "model-whole.safetensors") for name, file in files.items()}
        save_file(tensors, temporary / "model-motion.safetensors", metadata={"format": "pt"})
        files |= dict.fromkeys(tensors, "model-motion.safetensors")
        _index(temporary, files)
        write_json(temporary / "config.json", {**config, "motion_window": encoder.window})


def _expected(config: InternVLConfig, *, tied: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of transformers' weights."""
    auto: Any = AutoModelForImageTextToText
    with torch.device("meta"):
        state = auto.from_config(config).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not (tied and name == "lm_head.weight")}


def _check(
    source: Path, stored: Stored, pieces: Mapping[str, Piece], expected: Mapping[str, tuple[int, ...]],
    moving: Iterable[str], *, motion: bool,
) -> None:  # fmt: skip
    """Raises InputError naming what ``stored`` lacks, has too much, or has of another shape."""
    needed, have = {piece.name for piece in pieces.values()}, stored.where.keys()
    if motion and (lacking := [part for part in MOTION if not any(name.startswith(part) for name in moving)]):
        raise InputError(
            f"{source} lacks its motion weights ({', '.join(f'{part}*' for part in lacking)}); convert it as internvl, "
            "or give VQAThinker's whole checkpoint."
        )
    if motion:
        needed |= {f"{PROJECTOR}.{layer}.{kind}" for layer in (0, 1, 3) for kind in ("weight", "bias")}
    if missing := needed - have:
        raise InputError(f"{source} lacks {some(missing)}, of {len(needed)} tensors; is it cut short?")
    if foreign := have - needed - set(moving):
        with_motion = any(name.startswith(MOTION) for name in foreign)
        mend = "convert it as vqathinker" if with_motion else "is it another model's, or does config.json lie?"
        raise InputError(f"Nothing takes {some(foreign)} of {source}; {mend}.".replace("?.", "?"))
    odd = {p.name for name, p in pieces.items() if p.shape(stored.shapes[p.name]) != expected[name]}
    if odd:
        raise InputError(f"{some(odd)} of {source} are of another shape than config.json says; is it another model's?")


def _write_weights(output: Path, stored: Stored, pieces: Mapping[str, Piece]) -> None:
    """The weights as transformers keeps large ones: files of about ``SHARD_BYTES`` and an index; no more than one
    file's are in memory.
    """
    shards: list[list[str]] = [[]]
    sizes = {name: stored.sizes[piece.name] // max(1, piece.parts) for name, piece in pieces.items()}
    for name, size in sizes.items():
        if shards[-1] and size + sum(sizes[each] for each in shards[-1]) > SHARD_BYTES:
            shards.append([])
        shards[-1].append(name)
    files: dict[str, str] = {}
    for number, names in enumerate(track(shards, "writing the judge"), 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(stored.pieces({name: pieces[name] for name in names}), output / file, metadata={"format": "pt"})
        files |= dict.fromkeys(names, file)
    _index(output, files)


def _index(output: Path, files: Mapping[str, str]) -> None:
    size = sum((output / file).stat().st_size for file in set(files.values()))
    write_json(output / INDEX, {"metadata": {"total_size": size}, "weight_map": files})


def add_file(output: Path, tensors: Mapping[str, Tensor], name: str) -> None:
    """Write ``tensors`` as a file ``name`` of the weights in ``output``, which have an index."""
    save_file(dict(tensors), output / name, metadata={"format": "pt"})
    _index(output, read_json(output / INDEX)["weight_map"] | dict.fromkeys(tensors, name))


def _tokenizer(source: Path) -> Any:
    """The release's tokenizer, with names for what stands for images. Raises InputError where none can be loaded."""
    mend = "copy the release's own files (tokenizer.json, tokenizer_config.json) there and convert again"
    if not any((source / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise InputError(f"{source} has no tokenizer; {mend}.")
    with loading(f"The tokenizer of {source} cannot be loaded", f"{mend}; its code is not run."):
        # One that is added to a vocabulary without it would be an id that the model never learned.
        if "<IMG_CONTEXT>" not in _words(source).get_vocab():
            raise InputError(f"The tokenizer of {source} has no <IMG_CONTEXT>; {mend}.")
        return _words(source, extra_special_tokens=SPECIAL)


def _words(source: Path, **more: Any) -> Any:
    file = source / "tokenizer.json"
    if (source / "tokenizer_config.json").exists():
        try:
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **more)
        except Exception:
            # It may name a class that is the release's own code.
            if not file.exists():
                raise
    ends: dict[str, Any] = {"eos_token": "<|im_end|>", "padding_side": "left"}
    words = PreTrainedTokenizerFast(tokenizer_file=str(file), **ends, **more)
    # Qwen's or InternLM2's: one that is added would be an id that the model does not have.
    words.pad_token = next((token for token in ("<|endoftext|>", "</s>") if token in words.get_vocab()), "<|im_end|>")
    return words


def _processor(released: Mapping[str, Any], tokenizer: Any) -> InternVLProcessor:
    side = image_side(released)
    shown: dict[str, Any] = {"size": {"height": side, "width": side}, "image_mean": list(MEAN), "image_std": list(STD)}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**shown, crop_to_patches=False), tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**shown), image_seq_length=image_tokens(released),
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def _generation(tokenizer: Any) -> GenerationConfig:
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    return GenerationConfig(eos_token_id=end, pad_token_id=tokenizer.pad_token_id)

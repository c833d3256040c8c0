"""Write a released AIGV-Assessor, of either stage, as a directory that transformers loads and this house asks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from reward_model.families.convert import add_file, convert
from reward_model.families.scores import HEADS, heads_like
from reward_model.families.tuned import Tuned
from reward_model.presets import ASSESSED, ASSESSMENT
from videoduet.errors import InputError
from videoduet.loading import check_files, loading, refuse_not_finite
from videoduet.store import read_json

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% elif part['type'] == 'video' %}<video>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""InternLM2's: no line break after a turn."""
BEGIN = "<s>"


def convert_assessor(
    source: Path,
    output: Path,
    *,
    dimension: str | None = None,
    alpha: float | None = None,
    relu: bool = False,
    window: int | None = None,
    num_frames: int = ASSESSMENT.num_frames,
) -> tuple[str, ...]:
    """What the judge rates that is written as ``output`` from the release in ``source``, a whole checkpoint.

    A checkpoint of stage 2 rates the one ``dimension`` that it was trained in (None: static quality), one of stage 1,
    which has no head, any. ``alpha`` is that of its LoRA (None: what is said beside it, else twice its rank), which is
    merged; ``relu`` keeps the released head's last ReLU, ``window`` is that of its motion encoder, and ``num_frames``
    are what it was trained with. Raises InputError as :func:`reward_model.families.convert.convert`.
    """
    if not (source / "config.json").exists():
        raise InputError(f"{source} has no config.json; give the released directory, whole.")
    check_files(source)
    tuned = Tuned.read(source, alpha)
    heads = tuned.heads()
    dimensions = (dimension or ASSESSED[0],) if heads or dimension else ASSESSED
    if heads:
        _check_heads(source, heads)

    def more(directory: Path, config: Any, processor: Any) -> None:
        config.score_dimensions, config.score_relu = list(dimensions), relu
        if heads:
            add_file(directory, heads, "model-heads.safetensors")
        words = processor.tokenizer
        begun = words.convert_tokens_to_ids(BEGIN)
        # Most tokenizers begin a text by themselves.
        adds = begun is not None and words("a").input_ids[0] != begun
        processor.chat_template = f"{BEGIN}{CHAT_TEMPLATE}" if adds else CHAT_TEMPLATE
        side = processor.image_processor.size["height"]
        replace(ASSESSMENT, keys=dimensions, num_frames=num_frames, max_pixels=side * side).save(directory, "score")

    convert(source, output, motion=True, window=window, stored=tuned, more=more)
    return dimensions


def _check_heads(source: Path, heads: dict[str, Any]) -> None:
    """Raises InputError where the head is not whole, not a number, or of another width than the language model."""
    with loading(f"The score head (mlpscore.*) of {source} cannot be used", "download or copy the checkpoint anew."):
        refuse_not_finite(heads.items(), "it")
        found = heads_like({name.removeprefix(f"{HEADS}."): value for name, value in heads.items()}, relu=False)
        width = (read_json(source / "config.json").get("llm_config") or {}).get("hidden_size")
        if found.width != width:
            raise ValueError(f"it takes {found.width} numbers, and the language model gives {width}")

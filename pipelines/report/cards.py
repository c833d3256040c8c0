"""Model cards: what stands in ``final/generator/README.md`` and ``final/judge/README.md`` for those who get the
weights alone. All figures are the run's own; a base is named by its hub id, never by where it lies on a disk.
"""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from markupsafe import Markup

from pipelines.report.findings import notes, verdict
from pipelines.report.html import render
from pipelines.report.recorded import JUDGES, RecordedRun, load_run, loading_of, mapping, number, win_rates
from videoduet.store import write_bytes

LICENCES = {
    r"(ali|damo)-vilab/text-to-video-ms-1\.7b": "cc-by-nc-4.0",
    r"Wan-AI/Wan2\..*": "apache-2.0",
    r"(THUDM|zai-org)/CogVideoX-2b": "apache-2.0",
    r"Qwen/Qwen2\.5-VL-7B-Instruct": "apache-2.0",
    r"Qwen/Qwen3-VL-.*": "apache-2.0",
    "shapes_world/.*": "apache-2.0",
}
"""Licences of released weights by hub id, as their pages say; an adapter of theirs is bound by them. Of others the card
says to look.
"""
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/[^/]+/?(.*)")
SHIPPED = re.compile(r"shapes_world/models/(\w+)/?$")
CLASSES = {"generator": "UNet3DConditionModel", "judge": "Qwen2_5_VLForConditionalGeneration"}
KINDS = {"generator": "text-to-video", "judge": "video-text-to-text"}


def base_name(path: str) -> tuple[str, bool]:
    """How a card calls the base at ``path``, and whether that is an id on the hub."""
    if cached := CACHED.search(path):
        return f"{cached[1]}/{cached[2]}", True
    if shipped := SHIPPED.search(path):
        return f"shapes_world/{shipped[1]}", False
    if HUB_ID.fullmatch(path) and not Path(path).exists():
        return path, True
    return Path(path).name or "unknown", False


def subfolder_of(path: str) -> str | None:
    """Where in its repository the base at ``path`` lies, as the hub's cache has it; None at its top."""
    cached = CACHED.search(path)
    return cached[3].strip("/") or None if cached else None


def licence_of(base: str) -> str | None:
    """The licence of the base called ``base``, None where it is not known here."""
    return next((licence for pattern, licence in LICENCES.items() if re.fullmatch(pattern, base)), None)


def _metadata(run: RecordedRun, part: str, base: str, is_hub_id: bool) -> str:
    """The card's header, as the hub reads it."""
    tags = ["videoduet", "lora", *(["diffusion-dpo"] if part == "generator" else ["grpo", "reward-model"])]
    settings: dict[str, Any] = {"library_name": "peft", "pipeline_tag": KINDS[part], "tags": tags}
    if is_hub_id:
        settings |= {"base_model": base, "base_model_relation": "adapter"}
    if licence := licence_of(base):
        settings["license"] = licence
    # huggingface_hub leaves a parameter's type open.
    return ModelCardData(**settings).to_yaml()  # pyright: ignore[reportUnknownMemberType]


def _snippet(run: RecordedRun, part: str, base: str) -> str:
    """How the adapter is loaded by public libraries."""
    loaded = loading_of(run, part, CLASSES[part])
    name, inner = loaded["model_class"], subfolder_of(str(run.adapters[part].get("base_model_name_or_path") or ""))
    if part == "generator":
        where = loaded["subfolder"]
        base_of = _called(base, f"{inner}/{where}" if inner else str(where), loaded["revision"])
        return (
            f"from diffusers import {name}\nfrom peft import PeftModel\n\n"
            f"{where} = {name}.from_pretrained({base_of})\n"
            f'{where} = PeftModel.from_pretrained({where}, "this/directory")\n'
            f"# In place: give your pipeline {where}.get_base_model()."
        )
    base_of = _called(base, inner, loaded["revision"])
    return (
        f"from peft import PeftModel\nfrom transformers import AutoProcessor, {name}\n\n"
        f"model = {name}.from_pretrained({base_of})\n"
        f'model = PeftModel.from_pretrained(model, "this/directory")\n'
        f"processor = AutoProcessor.from_pretrained({base_of})"
    )


def _called(base: str, subfolder: str | None, revision: str | bool) -> str:
    """The arguments with which ``from_pretrained`` finds a base."""
    return json.dumps(base) + (f", subfolder={json.dumps(subfolder)}" if subfolder else "") + str(revision)


def _recipe(run: RecordedRun) -> list[tuple[str, str]]:
    """The settings that a reader asks for first; what the run does not say is left out."""
    names = {
        "rounds": "Rounds",
        "seed": "Seed",
        "generator.videos_per_prompt": "Videos a prompt",
        "pairs.pairs_per_prompt": "Pairs a prompt",
        "align.beta": "β of Diffusion-DPO",
        "align.learning_rate": "Learning rate (generator)",
        "align.lora_rank": "Rank of the LoRA (generator)",
        "refresh.enabled": "The judge refreshed between rounds",
        "refresh.training.learning_rate": "Learning rate (judge)",
    }
    found = [(name, run.setting(key)) for key, name in names.items()]
    rows = [("Training prompts", run.training_prompts or None), *found]
    rows += [(f"Version of {name}", run.environment.get(name)) for name in ("videoduet", "torch", "diffusers", "trl")]
    for part, setting in (("Base generator", "generator.path"), ("Judge", "judge.path")):
        rows.insert(0, (part, base_name(str(path))[0] if (path := run.setting(setting)) else None))
    return [(name, str(value)) for name, value in rows if value is not None]


def _figures(run: RecordedRun, part: str) -> list[tuple[str, str]]:
    """What was measured, each with its interval where there is one."""
    if part == "generator":
        rows: list[tuple[str, str]] = []
        reported = mapping(run.choice.get("reported"))
        if number(reported.get("rate")) is not None:
            version = run.choice.get("version")
            rows.append((f"Win rate of {version}, which this is, over the base, by the second judge, on prompts that "
                         "did not choose it", _win_rate(reported)))  # fmt: skip
        for judge, name in JUDGES.items():
            name = name.removeprefix("the ")
            for version, rate in win_rates(run, judge).items():
                rows.append((f"Win rate of {version} over the base, by the {name}", _win_rate(rate)))
        return rows
    rows = []
    for item in run.rounds:
        for kind, figures in mapping(item.phases["refresh"].get("held_out")).items():
            before, after = (number(mapping(figures).get(when)) for when in ("before", "after"))
            if before is not None and after is not None:
                rows.append(
                    (f"Round {item.number}, accuracy on held-out pairs ({kind})", f"{before:.3f} → {after:.3f}")
                )
    return rows


def _win_rate(rate: dict[str, Any]) -> str:
    low, high = number(rate.get("low")), number(rate.get("high"))
    span = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    total = f", {rate['total']:.0f} held-out cases" if number(rate.get("total")) is not None else ""
    return f"{rate['rate']:.3f}{span}{total}"


def write_cards(run_dir: str | Path) -> list[Path]:
    """The cards of a finished run's exports, written; none for what is not there."""
    run = load_run(Path(run_dir))
    written: list[Path] = []
    for part in CLASSES:
        folder = run.directory / "final" / part
        if not run.adapters[part]:
            continue
        base, is_hub_id = base_name(str(run.adapters[part].get("base_model_name_or_path") or ""))
        card = render(
            "card.md", part=part, base=base, is_hub_id=is_hub_id, licence=licence_of(base),
            metadata=Markup(_metadata(run, part, base, is_hub_id)), snippet=Markup(_snippet(run, part, base)),
            recipe=_recipe(run), figures=_figures(run, part), verdict=verdict(run)[0],
            limits=[text for level, text in notes(run) if level == "warning"],
            asked=(folder / "judge_prompt.json").exists(),
            rank=run.adapters[part].get("r"), alpha=run.adapters[part].get("lora_alpha"),
        )  # fmt: skip
        write_bytes(folder / "README.md", card)
        written.append(folder / "README.md")
    return written

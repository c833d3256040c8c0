"""What a card says of its base, and how each form of an export is loaded by public libraries."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from generators.config import LoraFormat
from pipelines.report.recorded import RecordedRun, loading_of
from videoduet.hub import THIS
from videoduet.store import read_json

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
OWN_PIPELINES = ("T2VTurboPipeline", "VideoCrafter2Pipeline")
"""Pipelines that diffusers has not; ``generators`` shows them."""


@dataclass(frozen=True)
class Exported:
    """An export: of which ``part`` (generator or judge), in which ``form``, in which ``files`` where it is files, and
    the pipeline that loads it where that is known.
    """

    part: str
    form: LoraFormat = "peft"
    files: tuple[str, ...] = ()
    pipeline: str = "DiffusionPipeline"

    @property
    def library(self) -> str:
        """The library that the hub names in its own snippet."""
        whole = "diffusers" if self.part == "generator" else "transformers"
        return "peft" if self.form == "peft" else whole


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


def pipeline_in(folder: Path) -> str:
    """The pipeline class that the diffusers directory ``folder`` names, as far as a snippet may."""
    index = folder / "model_index.json"
    named = str(read_json(index).get("_class_name")) if index.is_file() else ""
    return named if named.isidentifier() else "DiffusionPipeline"


def snippet(run: RecordedRun, exported: Exported, base: str) -> str:
    """How ``exported``, of the base called ``base``, is loaded by public libraries; '' where no program loads it."""
    part, form = exported.part, exported.form
    if form == "comfyui":
        return ""
    if form == "merged":
        return _merged(run, exported)
    loaded = loading_of(run, part, CLASSES[part])
    name, inner = loaded["model_class"], subfolder_of(str(run.adapters[part].get("base_model_name_or_path") or ""))
    if form == "diffusers":
        places = ("", ", load_into_transformer_2=True")
        lines = (
            f'pipe.load_lora_weights("{THIS}", weight_name={json.dumps(file)}{second})\n'
            for file, second in zip(exported.files, places, strict=False)
        )
        made = f"pipe = {exported.pipeline}.from_pretrained({_called(base, inner, loaded['revision'])})\n"
        return f"{_import(exported.pipeline)}\n\n{made}{''.join(lines)}".rstrip()
    if part == "generator":
        where = loaded["subfolder"]
        base_of = _called(base, f"{inner}/{where}" if inner else str(where), loaded["revision"])
        return (
            f"from diffusers import {name}\nfrom peft import PeftModel\n\n"
            f"{where} = {name}.from_pretrained({base_of})\n"
            f'{where} = PeftModel.from_pretrained({where}, "{THIS}")\n'
            f"# In place: give your pipeline {where}.get_base_model()."
        )
    base_of = _called(base, inner, loaded["revision"])
    return (
        f"from peft import PeftModel\nfrom transformers import AutoProcessor, {name}\n\n"
        f"model = {name}.from_pretrained({base_of})\n"
        f'model = PeftModel.from_pretrained(model, "{THIS}")\n'
        f"processor = AutoProcessor.from_pretrained({base_of})"
    )


def _merged(run: RecordedRun, exported: Exported) -> str:
    if exported.part == "generator":
        return f'{_import(exported.pipeline)}\n\npipe = {exported.pipeline}.from_pretrained("{THIS}")'
    name = loading_of(run, "judge", CLASSES["judge"])["model_class"]
    return (
        f"from transformers import AutoProcessor, {name}\n\n"
        f'model = {name}.from_pretrained("{THIS}")\nprocessor = AutoProcessor.from_pretrained("{THIS}")'
    )


def _import(pipeline: str) -> str:
    return f"from {'generators' if pipeline in OWN_PIPELINES else 'diffusers'} import {pipeline}"


def _called(base: str, subfolder: str | None, revision: str | bool) -> str:
    """The arguments with which ``from_pretrained`` finds a base."""
    return json.dumps(base) + (f", subfolder={json.dumps(subfolder)}" if subfolder else "") + str(revision)

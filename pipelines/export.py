"""Write an aligned generator as other tools load it.

    python -m pipelines.export --adapter RUN/final/generator --format diffusers --output DIR
    python -m pipelines.export --adapter RUN/final/generator --format comfyui --output DIR --push_to_hub OWNER/NAME

diffusers: one file for load_lora_weights of the stock Wan, CogVideoX, LTX, LTX-2 and ModelScope pipelines, and of
generators.T2VTurboPipeline and VideoCrafter2Pipeline (no stock pipeline loads those). comfyui: one file for ComfyUI's
LoRA loader, for Wan and LTX. Wan 2.2's A14B gets a file for each of its two denoisers. peft: the directory as it is.
merged: the whole generator with the LoRA in its weights, a diffusers directory. Each has a model card. --push_to_hub
publishes it too, private unless --public true.
"""

from collections.abc import Sequence
from pathlib import Path

from generators.config import ExportConfig
from videoduet.commands import guarded, parse_command, quiet_libraries
from videoduet.progress import console

LOADED = {
    "diffusers": 'pipe.load_lora_weights("{output}", weight_name="{name}")',
    "comfyui": "put it into ComfyUI's models/loras",
    "peft": 'PeftModel.from_pretrained(pipe.transformer, "{output}") (pipe.unet where it is a UNet)',
    "merged": "--generator {output}, or from_pretrained of its pipeline",
}
"""What is done with each format; of the two files of Wan 2.2's A14B, the second has another place."""
SECOND = {
    "diffusers": 'pipe.load_lora_weights("{output}", weight_name="{name}", load_into_transformer_2=True)',
    "comfyui": "the same, for the low-noise model",
}


def write(config: ExportConfig) -> None:
    """Write what ``config`` says, and tell what to do with it."""
    from generators.exporting import base_of, export
    from generators.loading import pipeline_class
    from pipelines.report.cards import write_export_card
    from pipelines.report.publishing import publish_export
    from videoduet.hub import check

    quiet_libraries()
    if config.push_to_hub:
        check(config.push_to_hub)
    paths = export(config)
    names = [path.name for path in paths if path.is_file()]
    pipeline = pipeline_class(config.generator or base_of(config.adapter)) if config.format != "peft" else ""
    write_export_card(Path(config.adapter), Path(config.output), config.format, names, pipeline)
    for path, words in zip(paths, (LOADED, SECOND), strict=False):
        told = words[config.format].format(output=config.output, name=path.name)
        console.print(f"{path} is written: {told}", markup=False, highlight=False, soft_wrap=True)
    if config.push_to_hub:
        address = publish_export(config.output, config.push_to_hub, public=config.public)
        console.print(f"Published: {address}", markup=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    config = parse_command(ExportConfig, "pipelines.export", __doc__, arguments)
    guarded(lambda: write(config), "the same command")


if __name__ == "__main__":
    main()

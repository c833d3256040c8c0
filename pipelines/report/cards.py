"""Model cards: what stands in the ``README.md`` of a run's exports, and of other forms of them, for those who get the
weights alone. All figures are the run's own; a base is named by its hub id, never by where it lies on a disk.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from markupsafe import Markup

from generators.config import LoraFormat
from pipelines.report.findings import notes, verdict
from pipelines.report.html import render
from pipelines.report.recorded import JUDGES, RecordedRun, load_run, mapping, number, win_rates
from pipelines.report.snippets import Exported, base_name, licence_of, pipeline_in, snippet
from videoduet.store import read_json, write_bytes

PROMPT = "judge_prompt.json"
KINDS = {"generator": "text-to-video", "judge": "video-text-to-text"}


def _metadata(exported: Exported, base: str, is_hub_id: bool) -> str:
    """The card's header, as the hub reads it."""
    part, whole = exported.part, exported.form == "merged"
    learned = ["diffusion-dpo"] if part == "generator" else ["grpo", "reward-model"]
    tags = ["videoduet", *([] if whole else ["lora"]), *learned]
    settings: dict[str, Any] = {"library_name": exported.library, "pipeline_tag": KINDS[part], "tags": tags}
    if is_hub_id:
        settings |= {"base_model": base, "base_model_relation": "finetune" if whole else "adapter"}
    if licence := licence_of(base):
        settings["license"] = licence
    # huggingface_hub leaves a parameter's type open.
    return ModelCardData(**settings).to_yaml()  # pyright: ignore[reportUnknownMemberType]


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


def card_of(run: RecordedRun, exported: Exported, *, asked: bool = False) -> bytes:
    """The card of ``exported``, which came of ``run`` (one without a config where nothing is known of its training);
    ``asked`` where the judge's wording lies beside it.
    """
    part, adapter = exported.part, run.adapters[exported.part]
    base, is_hub_id = base_name(str(adapter.get("base_model_name_or_path") or ""))
    card = render(
        "card.md", part=part, form=exported.form, files=exported.files, base=base, is_hub_id=is_hub_id,
        licence=licence_of(base), metadata=Markup(_metadata(exported, base, is_hub_id)),
        snippet=Markup(snippet(run, exported, base)), recipe=_recipe(run) if run.config else [],
        figures=_figures(run, part), known=bool(run.config), verdict=verdict(run)[0] if run.config else "",
        limits=[_without_place(text, run) for level, text in notes(run) if level == "warning"], asked=asked,
        rank=adapter.get("r"), alpha=adapter.get("lora_alpha"),
    )  # fmt: skip
    # What is escaped for a page's sake; in text quotation marks open nothing.
    return card.replace(b"&#39;", b"'").replace(b"&#34;", b'"')


def _without_place(text: str, run: RecordedRun) -> str:
    """What a note says, but not where the run lies, or anything else on this disk."""
    return text.replace(f"{run.directory.absolute()}/", "").replace(f"{Path.home()}/", "")


def write_cards(run_dir: str | Path) -> list[Path]:
    """The cards of a finished run's exports, written: of adapters, and of whole models where those were merged; none
    for what is not there.
    """
    run = load_run(Path(run_dir))
    written: list[Path] = []
    forms: tuple[tuple[str, LoraFormat], ...] = (("", "peft"), ("merged_", "merged"))
    for part in KINDS:
        for prefix, form in forms:
            name = f"{prefix}{part}"
            folder = run.directory / "final" / name
            if not run.adapters[part] or not folder.is_dir():
                continue
            exported = Exported(part, form, pipeline=pipeline_in(folder))
            write_bytes(folder / "README.md", card_of(run, exported, asked=(folder / PROMPT).is_file()))
            written.append(folder / "README.md")
    return written


def write_export_card(adapter: Path, folder: Path, form: LoraFormat, files: Sequence[str], pipeline: str) -> None:
    """Write the card of what was exported from the generator's ``adapter`` into ``folder`` as ``form``: with the run's
    figures where the adapter lies in one.
    """
    root = adapter.absolute().parent.parent
    run = load_run(root) if (root / "config.yaml").is_file() else RecordedRun(adapter)
    run.adapters = {"generator": read_json(adapter / "adapter_config.json")}
    exported = Exported("generator", form, tuple(files), pipeline)
    write_bytes(folder / "README.md", card_of(run, exported))

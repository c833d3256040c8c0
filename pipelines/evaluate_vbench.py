"""Score a generator's checkpoint, or videos from anywhere, on VBench.

    python -m pipelines.evaluate_vbench setup
    python -m pipelines.evaluate_vbench --generator DIR_OR_ID --output DIR
    python -m pipelines.evaluate_vbench --generator DIR_OR_ID --adapter LORA --base BASE_OUTPUT --output DIR
    python -m pipelines.evaluate_vbench --videos FOLDER --output DIR

The first makes the environment that the vbench package needs. The same command resumes what was stopped.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.environment import suite_path
from evaluation.vbench.results import print_summary, read_base, save, summarise
from evaluation.vbench.scoring import DimensionResult, Scorer, readable, unscorable
from evaluation.vbench.suite import (
    FLICKERING_VIDEOS,
    VIDEOS_PER_PROMPT,
    SuiteRow,
    SuiteVideo,
    VideoFile,
    is_official,
    names_on_disk,
    read_folder,
    read_suite,
    select,
    suite_videos,
    write_index,
)
from generators.base import Generator
from generators.loading import load_generator, with_adapter
from generators.sampling import SamplingItem, read_samples
from pipelines.sample import sample_items
from pipelines.setup_vbench import setup
from videoduet.commands import guarded, parse_command
from videoduet.config import Precision, at_least, execution, identity, resolve, to_dict
from videoduet.errors import InputError
from videoduet.processes import processes
from videoduet.progress import console, track
from videoduet.records import Prompt, stable_id
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_bytes, write_records
from videoduet.workspace import RunDirectory


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Score a generator or a folder of videos on VBench, with the real package. The same command resumes.

    Attributes:
        generator: diffusers directory or hub id of a text-to-video model, which draws the official prompt suite.
        adapter: A LoRA in PEFT's format to put in force.
        videos: Instead of a generator: a folder of mp4 files called PROMPT-0.mp4, or with a videos.csv (columns video,
            prompt, index), as pipelines.sample writes it.
        official: The videos of the folder are those of the official suite, under their official names.
        output: Where videos and results are kept: results.json, results.csv, results.html, scores_by_video.csv.
        base: The --output of an earlier evaluation to compare with: the base checkpoint's.
        dimensions: Score these only (None: all 16).
        prompts_per_dimension: Use that many prompts of each dimension (None: all). There is no total then.
        videos_per_prompt: Videos of each prompt; the official suite has 5.
        flickering_videos: Videos drawn of each prompt of temporal flickering, of which 5 that stand still count.
        subset_seed: Seed of the subset of prompts.
        seed: Each video's noise depends on this, its prompt and its index alone.
        batch_size: Videos drawn at once, across prompts.
        sampler: Overrides of the family's settings: steps, guidance_scale, fps, num_frames, height, width.
        dtype: Precision of the weights.
        processes: Dimensions scored at once, each in its own process.
        resamples: Bootstrap resamples of the prompts for the 95 % intervals.
        trust_pickles: Let weights files hold more than tensors. Such a file can run code when it is loaded: only for
            files whose source you trust. The published amt-s.pth (motion_smoothness) may need it.
    """

    generator: str | None = identity(None, "generator")
    adapter: str | None = identity(None, "LoRA")
    videos: str | None = identity(None, "folder")
    official: bool = identity(False, "official suite")
    output: str = execution("", "output")
    base: str | None = execution(None, "base")
    dimensions: list[str] | None = execution(None, "dimensions")
    prompts_per_dimension: int | None = execution(None, "prompts")
    videos_per_prompt: int = execution(VIDEOS_PER_PROMPT, "videos")
    flickering_videos: int = execution(FLICKERING_VIDEOS, "videos")
    subset_seed: int = execution(0, "seed")
    seed: int = identity(0, "seed")
    batch_size: int = identity(8, "videos at once")
    sampler: dict[str, Any] = field(default_factory=dict, metadata={"role": "identity"})
    dtype: Precision = identity("float32", "precision")
    processes: int = execution(1, "processes")
    resamples: int = execution(1000, "resamples")
    trust_pickles: bool = execution(False, "pickles")

    def __post_init__(self) -> None:
        if (self.generator is None) == (self.videos is None):
            raise InputError("Give either --generator, which draws the videos, or --videos, a folder.", exit_code=2)
        if not self.output:
            raise InputError("No output is named; give --output.", exit_code=2)
        if unknown := [name for name in self.dimensions or () if name not in DIMENSIONS]:
            known = ", ".join(DIMENSIONS)
            raise InputError(f"VBench has no dimension {unknown[0]}; choose among {known}.", exit_code=2)
        for name in ("videos_per_prompt", "flickering_videos", "batch_size", "processes", "prompts_per_dimension"):
            at_least(1, **{name: getattr(self, name)})
        at_least(0, resamples=self.resamples)


def evaluate(config: EvaluationConfig) -> dict[str, Any] | None:
    """Draw what is missing, score, and write the results; returns results.json's contents (on the first process)."""
    base = read_base(config.base) if config.base else None
    names = list(config.dimensions or DIMENSIONS)
    suite = _suite(config, names)
    output = Path(config.output)
    if config.generator:
        folder = draw(config, suite_videos(suite, config.videos_per_prompt, config.flickering_videos))
    else:
        folder = Path(config.videos)
    if not processes().is_main_process:
        return None
    files, others = read_folder(folder)
    problems = [f"{len(others)} files of {folder} are no mp4 files, e.g. {others[0]}: passed over."] if others else []
    results, more = score_files(config, output / "scores", files, suite, names)
    complete = suite is not None and config.prompts_per_dimension is None and is_official(read_suite(suite_path()))
    complete &= config.videos_per_prompt == VIDEOS_PER_PROMPT
    summary = {
        "name": config.adapter or config.generator or config.videos,
        "base": base and base["name"],
        "problems": problems + more,
        **summarise(results, complete=complete, resamples=config.resamples, base=base),
        "made_with": _made_with(config, results),
    }
    save(output, summary, results)
    print_summary(summary)
    console.print(f"Results: {output / 'results.html'}, results.json, results.csv.", markup=False, soft_wrap=True)
    return summary


def _suite(config: EvaluationConfig, names: Sequence[str]) -> list[SuiteRow] | None:
    if not (config.generator or config.official):
        return None
    return select(read_suite(suite_path()), names, config.prompts_per_dimension, config.subset_seed)


def score_files(
    config: EvaluationConfig,
    output: Path,
    files: Sequence[VideoFile],
    suite: list[SuiteRow] | None,
    names: Sequence[str],
) -> tuple[dict[str, DimensionResult], list[str]]:
    """Check the videos and score them; returns each dimension's result and what the user should know beforehand."""
    good, bad = readable(track(files, "VBench: check the videos"), output / "checked.json")
    problems = [f"{path} was left out: {reason}" for path, reason in bad[:20]]
    if len(bad) > 20:
        problems.append(f"… and {len(bad) - 20} more videos that cannot be read.")
    if not good:
        raise InputError(f"None of {len(files)} videos can be read, e.g. {bad[0][1]}")
    if suite is not None:
        have = {(video.file.prompt, video.file.index) for video in good}
        wanted = suite_videos(suite, config.videos_per_prompt, config.videos_per_prompt)
        if absent := [video for video in wanted if (video.prompt, video.index) not in have]:
            problems.append(
                f"{len(absent)} of {len(wanted)} videos of the suite are missing or unreadable, e.g. {absent[0].name}; "
                "the scores are of those that are there."
            )
    scorer = Scorer(output, good, suite, videos_per_prompt=config.videos_per_prompt, trust_pickles=config.trust_pickles)
    possible = [name for name in names if unscorable(name, suite is not None) is None]
    console.print(f"VBench: scoring {', '.join(possible) or 'nothing'}; logs are in {output / 'work'}.", markup=False)
    return scorer.score(names, config.processes, torch.cuda.device_count()), problems


def draw(config: EvaluationConfig, wanted: Sequence[SuiteVideo]) -> Path:
    """Draw the wanted videos that are not there yet; returns the folder where they have their official names.

    What is asked for is kept as a plan, whose batches do not depend on what was drawn before it was stopped; what a
    later command asks for beyond that becomes a plan of its own.
    """
    directory, state = RunDirectory(Path(config.output) / "samples"), processes()
    if (directory.root / "config.yaml").exists() and (changed := directory.touched_phases(config, {})):
        raise InputError(f"{config.output} was drawn with another {next(iter(changed))}; give another --output.")
    plans = [read_records(SuiteVideo, path) for path in sorted(directory.root.glob("plan_*.parquet"))]
    planned = {video for plan in plans for video in plan}
    drawn = {(sample.prompt_id, sample.index) for sample in read_samples(directory.root)}
    # Nobody writes before all have read what there is: all must come to the same list of work.
    state.wait_for_everyone()
    if rest := [video for video in wanted if video not in planned]:
        plans.append(rest)
    needed, generator = set(wanted), None
    for number, plan in enumerate(plans):
        prompts = {text: Prompt.of(text, "VBench") for text in dict.fromkeys(video.prompt for video in plan)}
        if not needed & set(plan) or all((prompts[video.prompt].id, video.index) in drawn for video in plan):
            continue
        generator = generator or _generator(config, str(state.device))
        if state.is_main_process and plan is rest:
            write_bytes(directory.root / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False).encode())
            write_records(directory.root / f"plan_{number:03d}.parquet", plan, SuiteVideo)
        items = [
            SamplingItem(prompts[v.prompt], v.index, seed_for(config.seed, prompts[v.prompt].id, v.index)) for v in plan
        ]
        version, what = f"plan{number:03d}", f"{len(plan)} videos"
        sample_items(generator, items, directory, directory.root, version, 0, config.batch_size, what)
    folder = Path(config.output) / "videos"
    if state.is_main_process:
        _name_officially(directory.root, folder, {Prompt.of(v.prompt).id: v.prompt for plan in plans for v in plan})
    return folder


def _generator(config: EvaluationConfig, device: str) -> Generator:
    generator = load_generator(resolve(config.generator), sampler=config.sampler, dtype=config.dtype, device=device)
    return with_adapter(generator, config.adapter)


def _name_officially(samples: Path, folder: Path, texts: dict[str, str]) -> None:
    """Give every video drawn its official name, as a second name of the same file, and list them."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {SuiteVideo(texts[s.prompt_id], s.index): samples / s.video_path for s in read_samples(samples)}
    names = names_on_disk([video.name for video in drawn], folder)
    files = []
    for video, source in drawn.items():
        path = folder / names[video.name]
        if path.exists() and not path.samefile(source):
            path = folder / f"{stable_id(video.name)}.mp4"
        if not path.exists():
            os.link(source, path)
        files.append(VideoFile(path, video.prompt, video.index))
    write_index(folder, files)


def _made_with(config: EvaluationConfig, results: dict[str, DimensionResult]) -> dict[str, str]:
    """What a reader needs to make the same figures again."""
    scored = [result.made_with for result in results.values() if result.made_with]
    versions = {name: version for found in scored for name, version in found["versions"].items()}
    asked = {
        "generator": config.generator, "adapter": config.adapter, "videos": config.videos,
        "seed": config.seed if config.generator else None, "sampler": config.sampler or None,
        "prompts of each dimension": config.prompts_per_dimension or "all",
        "videos of each prompt": config.videos_per_prompt,
        "device": ", ".join(sorted({found["device"] for found in scored})) or None,
    }  # fmt: skip
    return {name: str(value) for name, value in {**asked, **versions}.items() if value is not None}


def parse(arguments: Sequence[str]) -> EvaluationConfig:
    return parse_command(EvaluationConfig, "evaluate_vbench", __doc__, arguments)


def main() -> None:
    if sys.argv[1:2] == ["setup"]:
        setup(sys.argv[2:])
        return
    config = parse(sys.argv[1:])

    def command() -> None:
        summary = evaluate(config)
        if summary is not None and all("not_scored" in figures for figures in summary["dimensions"].values()):
            raise InputError("No dimension could be scored; the table says why for each.")

    guarded(command, "the same command")


if __name__ == "__main__":
    main()

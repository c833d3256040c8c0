"""VBench's official prompts in the loop: drawn by the base and chosen rounds, scored, summed up as the rule allows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.vbench.config import VBenchEvaluationConfig
from evaluation.vbench.evaluation import evaluate
from evaluation.vbench.results import read_base
from evaluation.vbench.scoring import DimensionResult, unscorable
from evaluation.vbench.suite import SuiteVideo, VideoFile, write_index
from evaluation.vbench.versions import told
from generators.sampling import SamplingItem, read_samples
from pipelines.loop.held_out import Versions, version_name
from pipelines.loop.official_prompts import PLAN, scorable_videos
from pipelines.loop.score_config import VBenchConfig
from videoduet.processes import processes
from videoduet.records import Prompt
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_records


def draw_official(versions: Versions, numbers: Sequence[int], output: Path, config: VBenchConfig) -> list[str]:
    """Draw the official prompts of the dimensions that can be scored with each of the versions into ``output``; returns
    what of the prompts was not drawn, in sentences.

    The noise is that of ``pipelines.evaluate_vbench`` with the run's seed.
    """
    plan, state = output / PLAN, processes()
    if state.is_main_process and not plan.exists() and (found := scorable_videos(config)):
        # Kept: weights or another suite that come later must not change how batches are cut.
        write_records(plan, found, SuiteVideo)
    state.wait_for_everyone()
    if not plan.exists():
        return []
    videos = read_records(SuiteVideo, plan)
    prompts = {video.prompt: Prompt.of(video.prompt, "VBench") for video in videos}
    items = [
        SamplingItem(prompts[v.prompt], v.index, seed_for(versions.seed, prompts[v.prompt].id, v.index)) for v in videos
    ]
    return [
        note for number in numbers for note in versions.draw(number, items, output, "score: sample VBench's prompts")
    ]


def score_official(numbers: Sequence[int], output: Path, config: VBenchConfig, root: Path) -> dict[str, Any]:
    """What the score's summary keeps of the official suite.

    That of :func:`evaluation.vbench.versions.compare_versions`, and ``official``: by version what an evaluation says,
    see :func:`evaluation.vbench.results.summarise` (``dimensions``, ``totals`` with intervals and gains over the base,
    ``no_total``, why there are none) and its ``problems``. ``numbers`` are the versions', the base's first.
    """
    reasons = {name: reason for name in config.names if (reason := unscorable(name, official=True))}
    possible = [name for name in config.names if name not in reasons]
    if not config.names:
        return {"available": False, "reason": "it is turned off (score.vbench.dimensions is empty)."}
    if not possible:
        return {"available": False, "reason": f"{'; '.join(f'{n}: {r}' for n, r in reasons.items())}."}
    names = [version_name(number) for number in numbers]
    files = {name: _listed(output, name, root) for name in names}
    evaluated = {name: _evaluated(output, name, names[0], possible, config) for name in names}
    scores = {name: _scores(output / name, found) for name, found in evaluated.items()}
    for found in evaluated.values():
        found["dimensions"] |= {name: {"not_scored": reason} for name, reason in reasons.items()}
    kept = ("dimensions", "totals", "no_total", "problems")
    return {
        **told(files, scores, reasons, root=root, tolerance=config.dynamic_degree_tolerance),
        "official": {name: {key: found[key] for key in kept} for name, found in evaluated.items()},
    }


def _listed(output: Path, version: str, root: Path) -> list[VideoFile]:
    """A version's videos, also as the list that an evaluation reads."""
    texts = {Prompt.of(video.prompt).id: video.prompt for video in read_records(SuiteVideo, output / PLAN)}
    samples = read_samples(output, version, root=root)
    files = [VideoFile(Path(sample.video_path), texts[sample.prompt_id], sample.index) for sample in samples]
    (output / version).mkdir(parents=True, exist_ok=True)
    write_index(output / version, files)
    return files


def _evaluated(
    output: Path, version: str, base: str, dimensions: Sequence[str], config: VBenchConfig
) -> dict[str, Any]:
    """What an evaluation of a version's videos says, against the base's where it is another; kept beside them."""
    found = evaluate(
        VBenchEvaluationConfig(
            videos=str(output / version), official=True, output=str(output / version),
            base=None if version == base else str(output / base), dimensions=list(dimensions),
            prompts_per_dimension=config.prompts_per_dimension, videos_per_prompt=config.videos_per_prompt,
            flickering_videos=config.flickering_videos, processes=config.processes, trust_pickles=config.trust_pickles,
        )
    )  # fmt: skip
    assert found is not None  # this is the first process
    return found


def _scores(folder: Path, evaluated: Mapping[str, Any]) -> dict[str, DimensionResult]:
    """An evaluation's results by dimension, video by video."""
    videos = read_base(folder)["videos"]
    return {
        name: DimensionResult(name, figures.get("raw"), videos.get(name, []), figures.get("not_scored"))
        for name, figures in evaluated["dimensions"].items()
    }

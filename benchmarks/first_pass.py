"""What a judge that scores saves: ``python -m benchmarks.first_pass --assessor DIR``.

Clips of shapes world with known damage, several for each prompt, are compared by a judge that reasons, all C(N,2) pairs
of each prompt, and again behind the scores of an AIGV-Assessor (as ``benchmarks.aigv_assessor`` leaves one), which are
replayed on the same answers. Told: comparisons, seconds, and how often best and worst are the full tournament's. Then
both score clips, each in the batch that is best for it, and their rates are compared: the reasoning judge, of the
assessor's own size, writes as many tokens as a thought has. Both decode, and see frames and motion, by the same code.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import torch

from alignment.preferences.ranking import order_by_standing, rank_prompts
from benchmarks.adaptive import Recorded
from benchmarks.reward_learning_data import shipped_vae
from reward_model import Judge
from reward_model.families.base import has_motion
from reward_model.families.sense import seen_tokens
from reward_model.judging.assessor import AssessorJudge
from reward_model.judging.build import build_judge, scorer_at
from reward_model.judging.config import TINY
from reward_model.judging.first_pass import FirstPassJudge
from reward_model.prompts import Prompts, VideoPrompt
from shapes_world.judge_data import damaged_clip, with_errors
from shapes_world.world import FPS, all_scenes
from videoduet.config import resolve
from videoduet.progress import console, track
from videoduet.records import Comparison, Prompt, Video, VideoPair
from videoduet.seeding import seed_for
from videoduet.store import read_records, write_json, write_records
from videoduet.video import video_id, write_video

BATCHES = (16, 64, 256)
"""Clips at once that are tried."""


def clips(folder: Path, prompts: int, videos: int, seed: int) -> dict[Prompt, list[Video]]:
    """``videos`` of each of ``prompts``, which ``benchmarks.aigv_assessor`` tests on, not trains."""
    vae = shipped_vae()
    scenes = [scene for i, scene in enumerate(all_scenes()) if i % 5 == 0]
    order = np.random.default_rng(seed).permutation(len(scenes))[:prompts]
    found: dict[Prompt, list[Video]] = {}
    for number in track(order.tolist(), "clips"):
        for place in range(videos):
            path, made = folder / f"{number:04d}_{place}.mp4", seed_for("first pass", seed, number, place)
            if not path.exists():
                asked = with_errors(scenes[number], np.random.default_rng(made))
                write_video(path, damaged_clip(asked, made, vae).frames, FPS)
            video = Video(id=video_id(path), path=str(path))
            found.setdefault(Prompt.of(scenes[number].prompt), []).append(video)
    return found


def tournament(output: Path, groups: dict[Prompt, list[Video]], judge: str) -> tuple[list[Comparison], float]:
    """All comparisons by the reasoning judge, and the seconds that one takes; shard by shard, so that it goes on."""
    found, asked, seconds, loaded = list[Comparison](), 0, 0.0, None
    for number, (prompt, videos) in enumerate(track(list(groups.items()), "all pairs")):
        path = output / f"comparisons_{number:03d}.parquet"
        if not path.exists():
            loaded = loaded or build_judge(judge, batch_size=64)
            pairs = [VideoPair(prompt=prompt, first=a, second=b) for a, b in itertools.combinations(videos, 2)]
            started = time.perf_counter()
            said = list(loaded.compare(pairs))
            seconds, asked = seconds + time.perf_counter() - started, asked + len(said)
            write_records(path, said, Comparison)
        found += read_records(Comparison, path)
    return found, seconds / asked if asked else float("nan")


def beside(full: list[Comparison], few: list[Comparison]) -> dict[str, float]:
    """How often the best and the worst of a prompt are the full tournament's."""
    whole, found = rank_prompts(full), rank_prompts(few)
    same: dict[str, list[bool]] = {"best": [], "worst": [], "both": []}
    for prompt, ranking in whole.items():
        ends = [[r.video_ids[order_by_standing(r)[end]] for end in (0, -1)] for r in (ranking, found[prompt])]
        for name, is_same in (("best", ends[0][0] == ends[1][0]), ("worst", ends[0][1] == ends[1][1])):
            same[name].append(is_same)
        same["both"].append(ends[0] == ends[1])
    return {name: float(np.mean(values)) for name, values in same.items()}


def talking(assessor: str, tokens: int, batch_size: int) -> Judge:
    """A judge in words of the assessor's size and weights, which always writes ``tokens`` tokens."""
    judge: Any = scorer_at(assessor)
    model, processor = judge.assessor.model, judge.assessor.encoder.processor
    model.generation_config.eos_token_id = None
    score = VideoPrompt(
        system=None, before="", question="score {prompt}", num_frames=8, max_pixels=judge.prompt.max_pixels,
        max_new_tokens=tokens, layout=judge.prompt.layout if has_motion(model) else None,
    )  # fmt: skip
    return Judge(model, processor, Prompts(score=score), judge_id="talking", batch_size=batch_size)


def rate(judge: Any, shown: list[tuple[str, str]]) -> dict[str, float]:
    """Clips a second, and core-milliseconds a clip, which say more where other work goes on beside it."""
    wall, core = time.perf_counter(), time.process_time()
    count = sum(1 for _ in judge.score(shown))
    return _rate(count, wall, core)


def _rate(count: int, wall: float, core: float) -> dict[str, float]:
    wall, core = time.perf_counter() - wall, time.process_time() - core
    return {"a second": count / wall, "core ms": 1000 * core / count}


def best_rate(load: Callable[[int], Any], shown: list[tuple[str, str]]) -> dict[str, float]:
    """The rate on ``shown`` in batches that take the least on the first of them."""
    pilots = {size: rate(load(size), shown[: max(BATCHES)])["core ms"] for size in BATCHES}
    size = min(pilots, key=lambda size: pilots[size])
    return {"batch": size, **rate(load(size), shown)}


@torch.no_grad()
def seeing(judge: AssessorJudge, shown: list[tuple[str, str]]) -> dict[str, float]:
    """The rate of what both judges do: decode, see frames and motion. No judge is faster."""
    wall, core, assessor = time.perf_counter(), time.process_time(), judge.assessor
    for start in range(0, len(shown), judge.batch_size):
        for path, _ in shown[start : start + 2 * judge.batch_size]:
            assessor.encoder.expect(path)
        videos = [assessor.encoder.video(path) for path, _ in shown[start : start + judge.batch_size]]
        seen_tokens(assessor.model, assessor.encoder, dict(enumerate(videos)))
    return _rate(len(shown), wall, core)


def counted(batch: int, tokens: int, flops: float = 786e12, bandwidth: float = 3.0e12) -> float:
    """How many times as fast InternVL2-8B scores in numbers as in ``tokens`` tokens of words, ``batch`` clips at once,
    if nothing but products and reading memory took time, at the rates measured on an H100 (docs/performance.md).

    8 frames of 448x448: 1,025 places of a vision tower of 0.3 billion weights, 256 tokens of a language model of 7.4
    billion in bfloat16 each, with 8 heads of 128 kept of 32 layers; 150 tokens of text.
    """
    places, length, weights = 8 * 1025, 8 * 256 + 150, 7.4e9
    reading = (2 * places * 0.304e9 + 2 * length * weights) / flops
    kept = length * 32 * 2 * 8 * 128 * 2
    a_token = max(2 * weights / flops, (2 * weights / batch + kept) / bandwidth)
    return (reading + tokens * a_token) / reading


def ranked(assessor: str, output: Path, groups: dict[Prompt, list[Video]], judge: str) -> dict[str, Any]:
    """What a first pass asks, saves and finds, by how sure it has to be."""
    full, each = tournament(output, groups, resolve(judge))
    results: dict[str, Any] = {"pairs": len(full), "seconds a comparison": each}
    named = [
        VideoPair(prompt=prompt, first=a, second=b)
        for prompt, found in groups.items()
        for a, b in itertools.combinations(found, 2)
    ]
    scorer: Any = scorer_at(assessor)
    for sure in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99):
        first = FirstPassJudge(scorer, lambda: Recorded(full), sure)
        same = beside(full, list(first.compare(named)))
        share = first.told.asked / len(named)
        saved = first.told.told * each - first.told.scoring
        results[f"sure {sure:g}"] = {"asked": share, **same, "scoring": first.told.scoring, "saved": saved}
        console.print(
            f"sure {sure:g}: {share:.0%} of {len(named)} pairs asked; same best {same['best']:.0%}, worst "
            f"{same['worst']:.0%}, both {same['both']:.0%}; {first.told.scoring:.1f} s of scores save {saved:.1f} s",
            markup=False, highlight=False,
        )  # fmt: skip
    return results


def rated(assessor: str, groups: dict[Prompt, list[Video]], tokens: int) -> dict[str, Any]:
    """Clips a second in numbers, all of them, and in words, a quarter."""
    shown = [(video.path, prompt.text) for prompt, found in groups.items() for video in found]
    numbers = best_rate(lambda size: scorer_at(assessor, batch_size=size), shown)
    words = best_rate(lambda size: talking(assessor, tokens, size), shown[: max(max(BATCHES), len(shown) // 4)])
    most = seeing(scorer_at(assessor, batch_size=int(numbers["batch"])), shown)
    told = {"in numbers": numbers, f"in {tokens} tokens of words": words, "seeing alone": most}
    for name, found in told.items():
        batch = f", batch {found['batch']}" if "batch" in found else ""
        console.print(
            f"{name}: {found['a second']:.1f} clips a second, {found['core ms']:.1f} core-milliseconds a clip{batch}",
            markup=False, highlight=False,
        )  # fmt: skip
    ratios = {
        "wall": numbers["a second"] / words["a second"], "cores": words["core ms"] / numbers["core ms"],
        "bound": words["core ms"] / most["core ms"],
    }  # fmt: skip
    at_8b = {batch: counted(batch, tokens) for batch in (1, 4, 32, 128)}
    console.print(
        f"{len(shown)} clips: {ratios['wall']:.1f} times as fast in numbers, {ratios['cores']:.1f} in core-seconds, "
        f"of which seeing leaves at most {ratios['bound']:.1f}. Counted for 8B on an H100, by batch: "
        + ", ".join(f"{batch}: {times:.1f}" for batch, times in at_8b.items()),
        markup=False, highlight=False,
    )  # fmt: skip
    return {**told, "ratios": ratios, "counted, 8B": at_8b}


def main(
    assessor: str, output: Path, judge: str = TINY, prompts: int = 64, videos: int = 8, scored: int = 125,
    tokens: int = 416, seed: int = 0, parts: str = "rank,rate",
) -> None:  # fmt: skip
    """Compare all pairs, then those that are close; then score.

    Args:
        assessor: A judge that rates in numbers and was calibrated.
        output: Where clips, comparisons and results go; the same command goes on where it was.
        judge: The judge that reasons.
        prompts: Prompts.
        videos: Clips of each.
        scored: Prompts whose clips are scored for the rate: with 8 clips each, 1,000.
        tokens: Length of a reasoning judge's answer: the middle of the 320 to 512 that VQ-Insight rewards.
        seed: Of the clips.
        parts: What is measured: rank, rate.
    """
    results = dict[str, Any]()
    if "rank" in parts:
        results |= ranked(assessor, output, clips(output / "clips", prompts, videos, seed), judge)
    if "rate" in parts:
        results |= rated(assessor, clips(output / "clips", scored, videos, seed), tokens)
    write_json(output / "results.json", results)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False, description=__doc__)

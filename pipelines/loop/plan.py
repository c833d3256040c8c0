"""What a run will cost, before it is started: also before prompts and weights are downloaded."""

import math
import time
from pathlib import Path

from pipelines.loop.audit_config import PROBES
from pipelines.loop.choice import PARTS
from pipelines.loop.config import RunConfig
from pipelines.loop.costs import Setting, cheapest, disk, setting
from pipelines.loop.official_prompts import reckoned_videos
from pipelines.loop.prompts import read_run_prompts
from pipelines.loop.rates import GeneratorSize, JudgeSize, cards, generator_size, judge_size, unknown
from pipelines.loop.refresh_counts import asked, learned_from, own_pairs
from reward_model.judging.audit import plan as audit_plan
from reward_model.presets import preset_named
from videoduet.config import resolve

PROBED = 2e8
"""Bytes of weights up to which a batch is drawn on a CPU to measure how long it takes."""
KINDS = {"all": "", "ceilings": ", by its measured ceilings", "nothing": ", an estimate"}
"""What is said of a card's hours, by what of it was measured."""
HELD_OUT = {"VBench_full_info.json": 944}
"""Prompts of files of held-out prompts that are known by name."""
ASSUMED = 100
"""Those of other files that are not there."""


JUDGING = ("audit", "refreshed audit", "rank", "refresh", "measure", "choosing", "score")
"""What a judge is asked for."""


def counts(config: RunConfig, prompts: int, held_out: int, steps: int, own: int = 0) -> dict[str, int]:
    """Videos, judge rollouts (showings answered), GRPO rollouts and denoiser forwards (videos) of a whole run.

    ``steps``: the sampler's, for each video; ``own``: as for :func:`counted`.
    """
    parts = counted(config, prompts, held_out, own)
    videos = parts["videos of rounds"] + parts["videos of score"] + parts["videos of VBench"]
    return {
        "videos": videos,
        "judge rollouts": sum(parts[f"{phase} rollouts"] for phase in JUDGING),
        "GRPO rollouts": parts["GRPO rollouts"],
        "denoiser forwards (sampling)": videos * steps,
        "denoiser forwards (alignment)": parts["denoiser forwards (alignment)"],
    }


def counted(config: RunConfig, prompts: int, held_out: int, own: int = 0) -> dict[str, int]:
    """The same by phase; ``judge.samples`` answers count as one showing, and ``own`` pairs of the judge's own data are
    held out for the gates.
    """
    n, rounds = config.generator.videos_per_prompt, config.rounds
    scored = held_out * config.score.videos_per_prompt
    refresh = config.refresh
    # With cross-fitting one half of the prompts gives labels from the second round on, and the other refreshes.
    part = 0.5 if refresh.cross_fit else 1.0
    tournament = 2 * round(prompts * (1 + part * (rounds - 1))) * math.comb(n, 2)
    refreshes = 0 if refresh.why_off(config.judge) is not None else rounds - 1
    training = refresh.training.for_items(refresh.items(round(prompts * part)))
    judge = config.judge
    audit = audit_plan(prompts * n, clips=config.audit.clips, names=PROBES)["showings"]
    draws = prompts * config.pairs.pairs_per_prompt * config.align.epochs * config.align.draws_per_pair
    if config.align.max_steps is not None:
        draws = min(draws, config.align.max_steps * config.align.batch_size)
    return {
        "videos of rounds": prompts * n * rounds,
        "videos of score": scored * (rounds + 1),
        "videos of VBench": reckoned_videos(config.score.vbench, rounds),
        "audit rollouts": audit,
        "refreshed audit rollouts": audit * refreshes,
        "rank rollouts": tournament,
        "refresh rollouts": 2 * asked(config, prompts, own) * refreshes,
        # By the second judge after each round, by the loop's own and D_0 at the end.
        "measure rollouts": 2 * scored * rounds * (judge.second_path is not None),
        # The best of the base's videos, once, and at most each round against the best one before it.
        "choosing rollouts": 2
        * (min(prompts, scored) + scored // PARTS * (rounds - 1))
        * (judge.second_path is not None),
        "score rollouts": 2 * scored * rounds * (1 + (judge.model is not None)),
        "GRPO rollouts": training.steps * training.items_per_step * training.num_generations * refreshes,
        # Policy and reference forward for both sides of a pair, and a backward that costs two forwards.
        "denoiser forwards (alignment)": draws * 2 * 4 * rounds,
    }


def planned(config: RunConfig) -> dict[str, str]:
    """What a person reads: counts; hours, memory and rent on every known card; disk; what fits at least cost.

    Raises InputError where a model is neither on this disk nor known.
    """
    train, held_out, notes = _prompts(config)
    own, own_notes = own_pairs(config)
    notes += own_notes + _refresh_notes(config, train)
    size, judge = generator_size(config.generator.path), _judge(config)
    path = Path(resolve(config.generator.path))
    if size is None and not path.exists():
        raise unknown("generators", "generator.path", config.generator.path)
    steps = int(config.generator.sampler.get("steps") or (size.steps if size else 0))
    rows = {"prompts": f"{train:,}"}
    if measured := _measured(config, path, counts(config, train, held_out, 1)["videos"]):
        steps, found = measured
        rows |= found
    rows |= {name: f"{value:,}" for name, value in counts(config, train, held_out, steps, own).items()}
    if size is not None:
        rows |= _reckoned(config, counted(config, train, held_out, own), size, judge)
    return rows | {"note": "\n".join(notes)} if notes else rows


def _prompts(config: RunConfig) -> tuple[int, int, list[str]]:
    """Numbers of training and held-out prompts, from the files where they are there."""
    given = config.prompts
    if Path(resolve(given.train)).exists() and Path(resolve(given.held_out)).exists():
        prompts = read_run_prompts(given)
        return len(prompts.train), len(prompts.held_out), []
    if given.limit is None:
        # The file's own sentence.
        read_run_prompts(given)
    held_out = HELD_OUT.get(Path(given.held_out).name, ASSUMED)
    held_out = min(held_out, given.held_out_limit or held_out)
    note = (
        f"Prompts are not on this disk: {given.limit:,} to learn from (prompts.limit), {held_out} held out are assumed."
    )
    return given.limit or 0, held_out, [note]


def _refresh_notes(config: RunConfig, prompts: int) -> list[str]:
    """What a person should know of the refreshes before they start."""
    refresh = config.refresh
    if not refresh.enabled or config.rounds == 1:
        return []
    if (reason := refresh.why_off(config.judge)) is not None:
        return [f"The judge is not refreshed: {reason}"]
    notes = list[str]()
    if refresh.training.vision != "frozen":
        notes = ["What memory the vision tower's training takes in refresh is not reckoned; --rehearse measures it."]
    # With cross-fitting the prompts that refresh a judge are not those that it ranks.
    if refresh.labels == "paper" and not refresh.cross_fit:
        shared = 2 * learned_from(config, prompts) * math.comb(config.generator.videos_per_prompt, 2)
        notes.append(f"Where the gate refuses a refresh, rank takes over {shared:,} rollouts of it.")
    return notes


def _judge(config: RunConfig) -> JudgeSize | None:
    """The judge's size; None where no model runs here."""
    if config.judge.factory is not None or config.judge.backend == "server" or config.judge.path is None:
        return None
    inner = config.judge.subfolder or preset_named(config.judge.preset).subfolder
    place = Path(resolve(config.judge.path)) / (inner or "")
    if (found := judge_size(str(place)) or judge_size(config.judge.path)) is None:
        raise unknown("judges", "judge.path", config.judge.path)
    return found


def _measured(config: RunConfig, path: Path, videos: int) -> tuple[int, dict[str, str]] | None:
    """Steps of a video, and rows from one batch drawn here; None where the weights are not here, or no GPU is and they
    are too many for a CPU.
    """
    if not path.is_dir():
        return None
    import torch

    from generators.loading import load_generator
    from videoduet.processes import device

    gpu = torch.cuda.is_available()
    if not gpu and sum(file.stat().st_size for file in path.rglob("*.safetensors")) > PROBED:
        return None
    generator = load_generator(
        str(path), sampler=config.generator.sampler, dtype=config.generator.dtype, device=device()
    )
    batch = config.generator.batch_size
    embeds = generator.encode_prompts(["a red circle moving left"] * batch)
    generator.rest()
    with generator.at_speed(config.generator.speed):
        if gpu:
            # Kernels are found, built and recorded at first use.
            generator.decode(generator.sample(embeds, range(batch))).cpu()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        frames = generator.decode(generator.sample(embeds, range(batch))).cpu()
        rate = batch / (time.perf_counter() - started)
    rows = {
        "hours of sampling (measured on one batch here)": f"{videos / rate / 3600:.2f}",
        "videos on disk, at most (GB)": f"{videos * frames[0].numel() / 1e9 / 4:.2f}",
    }
    if gpu:
        rows["peak memory of sampling (measured, GB)"] = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}"
    return generator.settings.steps, rows


def _reckoned(config: RunConfig, parts: dict[str, int], size: GeneratorSize, judge: JudgeSize | None) -> dict[str, str]:
    rows: dict[str, str] = {}
    for card in cards():
        on_card = setting(config, parts, size, judge, card)
        rows[f"GPU hours on {card.name}{KINDS[card.measured]}"] = _told(on_card)
    first = cards()[0]
    # What is 'auto' takes more where there is more.
    peaks = setting(config, parts, size, judge, first).memory
    rows[f"peak memory on {first.name} (GB)"] = ", ".join(
        f"{phase} {value / 1e9:.1f}" for phase, value in peaks.items()
    )
    rows["run on disk (GB)"] = _on_disk(config, parts, size)
    models = size.files + (judge.weights * 2e9 if judge is not None else 0.0)
    rows["models to download (GB)"] = f"{models / 1e9:.1f}"
    best = cheapest(config, parts, size, judge)
    if best is None:
        rows["cheapest that fits"] = "none of these cards holds it; draw fewer frames or pixels, or lower lora_rank"
        return rows
    changes = "".join(f" --{name} {str(value).lower()}" for name, value in best.changes.items())
    said = f"{best.card.name}, {best.total:,.1f} h, about ${best.dollars:,.0f}"
    rows["cheapest that fits"] = f"{said}, with{changes}" if changes else f"{said}, as it is"
    return rows


def _told(found: Setting) -> str:
    hours = ", ".join(f"{phase} {value:,.1f}" for phase, value in found.hours.items() if value)
    return f"{found.total:,.1f} ({hours}){'' if found.fits else '; does not fit as it is'}"


def _on_disk(config: RunConfig, parts: dict[str, int], size: GeneratorSize) -> str:
    found, kept = disk(config, parts, size), config.keep_latents
    adapters = 4.0 * size.lora(config.align.lora_rank) * config.rounds
    told = f"{(found['videos'] + found[kept] + adapters) / 1e9:.1f} (latents {found[kept] / 1e9:.1f}"
    return told + (")" if kept == "pairs" else f"; {found['pairs'] / 1e9:.1f} with keep_latents pairs)")

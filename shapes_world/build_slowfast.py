"""Train the tiny motion encoder from nothing: a narrow SlowFast that names how rendered clips move.

The world knows it exactly: direction, speed, and how the clip runs (steadily, or spoilt in time by one of the
degradations). As SlowFast learnt actions from Kinetics, this one learns these classes, and never what a clip is worth.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reward_model.motion import SlowFast, SlowFastNetwork
from reward_model.motion.pooling import FAST_WINDOW, SLOW_WINDOW, pooled, repeats, slow_indices
from reward_model.released_frames import normalised
from shapes_world.degradations import SPATIAL, degrade
from shapes_world.judge_data import TEMPORAL_DAMAGE
from shapes_world.world import DIRECTIONS, NUM_FRAMES, SPEEDS, all_scenes, draw, trajectory
from videoduet.progress import console, track
from videoduet.seeding import seed_for
from videoduet.store import atomic_path

STEMS, DEPTHS = (4, 8), (1, 1, 1, 1)
"""Two pathways of 128 and 256 channels at the end; the fast one, which sees motion, is the wider here."""
WINDOW = 1
"""Cells that are averaged: a frame of 32 pixels is one in the last map."""
RUNS = ("steady", *TEMPORAL_DAMAGE)
"""How a clip runs."""
CLASSES = {"direction": tuple(DIRECTIONS), "speed": tuple(SPEEDS), "run": RUNS}
HELD_OUT = 500


@dataclass(frozen=True)
class SlowFastBuild:
    """How long it trains; the defaults make the shipped weights."""

    seed: int = 0
    clips: int = 12000
    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 3e-3


def new_network(seed: int) -> SlowFastNetwork:
    """A random SlowFast of half a million parameters, whose features are 384 numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for("slowfast", seed) % 2**63)
        return SlowFastNetwork(STEMS, depths=DEPTHS)


def random_slowfast(seed: int) -> SlowFast:
    """The control: the same network, frozen before it learnt anything."""
    return SlowFast(new_network(seed), window=WINDOW)


def moving_clip(seed: int) -> tuple[np.ndarray, list[int]]:
    """Frames uint8 (8, 32, 32, 3) and their classes, in the order of CLASSES; half have spatial damage as well."""
    rng = np.random.default_rng(seed_for("moving", seed))
    scenes = all_scenes()
    scene = scenes[rng.integers(len(scenes))]
    frames = draw(scene, trajectory(scene, rng))
    run = RUNS[rng.integers(len(RUNS))]
    if run != "steady":
        frames = degrade(frames, run, rng.uniform(0.25, 1), rng)
    if rng.random() < 0.5:
        frames = degrade(frames, str(rng.choice(SPATIAL)), rng.uniform(0.1, 0.8), rng)
    named = {"direction": scene.direction, "speed": scene.speed, "run": run}
    return frames, [values.index(named[name]) for name, values in CLASSES.items()]


class Classifier(nn.Module):
    """A network, its features pooled as :class:`SlowFast` pools them, and a linear head for each kind of class."""

    def __init__(self, network: SlowFastNetwork):
        super().__init__()
        self.network = network
        self.heads = nn.ModuleList(nn.Linear(network.dim, len(values)) for values in CLASSES.values())
        self.shown, self.repeated = slow_indices(NUM_FRAMES), repeats(NUM_FRAMES)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Logits (B, classes) of each kind, from frames (B, T, 3, H, W)."""
        fast = frames.movedim(2, 1)
        maps = self.network(fast[:, :, self.shown], fast)
        spans = zip(maps, (SLOW_WINDOW, FAST_WINDOW), strict=True)
        features = torch.cat([pooled(each, span, self.repeated, WINDOW) for each, span in spans], dim=1)
        return [head(features) for head in self.heads]


def teach_motion(build: SlowFastBuild, output: Path) -> None:
    """Train, freeze and write it to ``output``, in half precision, unless it is there."""
    if output.exists():
        return
    made = [moving_clip(seed_for(build.seed, index)) for index in track(range(build.clips + HELD_OUT), "moving clips")]
    clips, classes = np.stack([clip for clip, _ in made]), torch.tensor([truth for _, truth in made])
    torch.manual_seed(build.seed)
    model = Classifier(new_network(build.seed)).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, build.learning_rate, total_steps=build.steps, pct_start=0.1
    )  # fmt: skip
    rng = np.random.default_rng(build.seed)
    for step in track(range(build.steps), "SlowFast learns how clips move"):
        rows = rng.integers(build.clips, size=build.batch_size)
        logits = model(normalised(clips[rows]))
        loss = torch.stack([F.cross_entropy(one, classes[rows, kind]) for kind, one in enumerate(logits)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            console.print(f"SlowFast: step {step}, loss {loss.item():.3f}")
    console.print("SlowFast names of held-out clips: " + _named(model.eval(), clips[-HELD_OUT:], classes[-HELD_OUT:]))
    with atomic_path(output) as temporary:
        SlowFast(model.network, window=WINDOW).half().save_pretrained(temporary)


@torch.no_grad()
def _named(model: Classifier, clips: np.ndarray, classes: Tensor) -> str:
    logits = model(normalised(clips))
    shares = [(one.argmax(1) == classes[:, kind]).float().mean() for kind, one in enumerate(logits)]
    return ", ".join(f"{name} {share:.2f}" for name, share in zip(CLASSES, shares, strict=True))

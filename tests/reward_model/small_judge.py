"""A very small judge with random weights and the real processor, taught in seconds to answer in its format, and
clips.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from reward_model.encoding import ShowingEncoder
from reward_model.prompts import JudgePrompt
from shapes_world.build_judge import PROMPT, new_judge, new_processor
from shapes_world.judge_data import ClipPair, DamagedClip
from shapes_world.world import COLOURS, FPS, Scene, render
from videoduet.records import LabelledPair, Prompt, Video, VideoPair
from videoduet.video import write_video

SMALL_PROMPT = replace(PROMPT, num_frames=4, max_new_tokens=12)
PROMPTS = ("a red circle", "", "a blue square moving left fast on a teal background, 'quoted' {braces} and ünïcode <b>")
SCENES = [Scene(colour, "circle", "left", "fast", "black") for colour in COLOURS]


def write_clips(directory: Path) -> dict[str, Video]:
    """One clip of each colour, and clips whose number of frames, shape or rate differs."""
    frames = {scene.colour: render(scene.prompt, seed) for seed, scene in enumerate(SCENES)}
    red, blue = frames["red"], frames["blue"]
    odd = {
        "three_frames": red[:3],
        "single_frame": red[:1],
        "ten_frames": np.concatenate([blue, blue[:2]]),
        "wide": np.tile(blue[:4], (1, 1, 2, 1)),
    }
    videos = {}
    for name, clip in {**frames, **odd}.items():
        write_video(directory / f"{name}.mp4", clip, FPS)
        videos[name] = Video(id=name, path=str(directory / f"{name}.mp4"))
    return videos


def pair(videos: dict[str, Video], first: str, second: str, prompt: str = SCENES[0].prompt) -> VideoPair:
    return VideoPair(prompt=Prompt.of(prompt), first=videos[first], second=videos[second])


def labelled(videos: dict[str, Video], first: str, second: str, preferred: str, prompt: str = "red") -> LabelledPair:
    return LabelledPair(prompt=Prompt.of(prompt), first=videos[first], second=videos[second], preferred=preferred)


def write_judge(directory: Path, videos: dict[str, Video]) -> None:
    """Model, processor and prompt of a judge that gives its verdict after a word of thought."""
    clips = [DamagedClip(render(scene.prompt, 0), scene, 1.0, 1.0) for scene in SCENES]
    processor = new_processor([ClipPair(a.scene, a, b) for a in clips for b in clips])
    model = new_judge(processor, seed=0)
    with torch.no_grad():
        model.model.visual.merger.mlp[-1].weight *= 20  # else random weights hardly look
    _teach(model, ShowingEncoder(processor, SMALL_PROMPT.num_frames), SMALL_PROMPT, videos)
    # Nothing in the weights' own settings suppresses tokens: that is the code's business.
    model.generation_config.suppress_tokens = None
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    SMALL_PROMPT.save(directory)


def _teach(model: torch.nn.Module, encoder: ShowingEncoder, prompt: JudgePrompt, videos: dict[str, Video]) -> None:
    tokenizer = encoder.processor.tokenizer
    rows, targets = [], []
    names = ("red", "green"), ("green", "red"), ("blue", "white"), ("white", "blue")
    for index, (first, second) in enumerate(names):
        showing = encoder.showing(prompt.messages(PROMPTS[index // 2], videos[first].path, videos[second].path))
        answer = f"<think>{first}</think><answer>{1 if first < second else 2}</answer><|im_end|>"
        targets.append(tokenizer(answer).input_ids)
        rows.append(replace(showing, ids=showing.ids + targets[-1]))
    inputs = encoder.collate(rows, pixels=True)
    length = min(map(len, targets))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        logits = model(**inputs, use_cache=False).logits[:, -length - 1 : -1]
        loss = F.cross_entropy(logits.flatten(0, 1), inputs["input_ids"][:, -length:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

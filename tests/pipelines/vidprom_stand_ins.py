"""What ``configs/vidprom.yaml`` reads, tiny and in the real layouts."""

import json
import shutil
import sys
from pathlib import Path

from small_loop import MODELS, SCENES

sys.path.append(str(Path(__file__).parent.parent / "reward_model"))
from miniature import vision_reward, write_csv

RECIPE = Path(__file__).parent.parent.parent / "configs" / "vidprom.yaml"
UNSAFE = ("toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")


def stand_ins(root: Path) -> Path:
    """All of them below ``root``."""
    safe = [0.001] * len(UNSAFE)
    rows = [[f"uuid-{number}", scene.prompt, "2023-10-01", *safe] for number, scene in enumerate(SCENES[:5])]
    rows.append(["uuid-9", "something unsafe", "2023-10-01", 0.9, *safe[1:]])
    write_csv(root / "data" / "VidProM_unique.csv", ("uuid", "prompt", "time", *UNSAFE), rows)
    full = [{"prompt_en": scene.prompt, "dimension": ["temporal_flickering"]} for scene in SCENES[5:7]]
    (root / "data" / "VBench_full_info.json").write_text(json.dumps(full))
    clips = sorted((MODELS / "judge_data" / "train").glob("*.mp4"))[:6]
    vision_reward(root / "data" / "VisionRewardDB-Video", clips)
    for name in ("vqinsight-comp", "vqinsight-naturalvideo"):
        shutil.copytree(MODELS / "judge", root / "models" / "Q-Insight" / name)
    return root


def options(root: Path, **more: object) -> list[str]:
    """The recipe's command line, with nothing but paths, limits and steps of its own."""
    folder = str(root / "data" / "VisionRewardDB-Video")
    data = [
        {"name": f"vision_reward_{kind}", "folder": folder, "split": "train", "limit": 6, "share": share}
        for kind, share in (("pairs", 0.667), ("questions", 0.333))
    ]
    given = {
        "run_dir": root / "run",
        "prompts.train": root / "data" / "VidProM_unique.csv",
        "prompts.held_out": root / "data" / "VBench_full_info.json",
        "prompts.limit": 4,
        "generator.path": "shapes_world/models/generator",
        "generator.sampler": json.dumps({"steps": 4, "num_frames": 8}),
        "generator.videos_per_prompt": 3,
        "judge.path": root / "models" / "Q-Insight",
        "refresh.data": json.dumps(data),
        "refresh.training.epochs": "null",
        "refresh.training.steps": 2,
        "refresh.training.checkpoint_steps": 1,
        "align.max_steps": 2,
        "align.checkpoint_steps": 1,
        **more,
    }
    return ["--config", str(RECIPE), *(f"--{name}={value}" for name, value in given.items())]

"""What judges that people know are asked and shown, to the letter: every token of it is part of what they learned.

The words are in ``published_prompts.json``, each with its source and the licence under which it is quoted. Frames,
pixels, order and scales are those of the same files. What is ours: that of UnifiedReward-2.0's three scores of a pair
the sum decides, and that a frame is not written as JPEG before it is seen.
"""

import json
from pathlib import Path
from typing import Any, cast

from reward_model.prompts import JudgePrompt, Prompts, VideoPrompt
from videoduet.video import FrameSampling

_FACTS = cast("dict[str, dict[str, str]]", json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")))
_AS_VIDEO: dict[str, Any] = {
    "frames": FrameSampling(fps=2, min_frames=4, max_frames=768), "max_pixels": 768 * 28 * 28,
}  # fmt: skip
"""What qwen_vl_utils shows of a video where nothing is said: 2 frames a second, each of at most 768 tokens' pixels."""
_AS_IMAGES: dict[str, Any] = {"num_frames": 8, "layout": "images"}
"""Eight frames, evenly spaced, each an image."""


def _words(name: str) -> str:
    return _FACTS[name]["text"]


def _better(name: str, shown: dict[str, Any], tokens: int, read_as: str | None = None) -> JudgePrompt:
    return JudgePrompt(
        system=None, before_first="", before_second="", question=_words(name), max_new_tokens=tokens, read_as=read_as,
        **shown,
    )  # fmt: skip


PUBLISHED: dict[str, tuple[Prompts, str | None]] = {
    "unifiedreward-think": (Prompts(_better("unifiedreward-think", _AS_VIDEO, 1024)), None),
    "unifiedreward-think-qwen3": (Prompts(_better("unifiedreward-think-qwen3", _AS_IMAGES, 4096)), None),
    "unifiedreward-2.0": (
        Prompts(
            compare=_better("unifiedreward-2.0 compare", _AS_IMAGES, 512, "relative"),
            score=VideoPrompt(
                system=None, before="", question=_words("unifiedreward-2.0 score"), max_new_tokens=512,
                keys=("alignment", "physics", "style"), scale=(1.0, 5.0), read_as="named", **_AS_IMAGES,
            ),
        ),
        None,
    ),
    "videoscore2": (
        Prompts(
            score=VideoPrompt(
                system=None, before="", question=_words("videoscore2"), max_new_tokens=1024, scale=(1.0, 5.0),
                keys=("visual quality", "text-to-video alignment", "physical/common-sense consistency"),
                read_as="three_dimensions", **_AS_VIDEO,
            )
        ),
        None,
    ),
    "q-insight": (
        Prompts(
            score=VideoPrompt(
                system=_words("q-insight system"), before=_words("q-insight"), question="", max_new_tokens=1024,
                keys=("rating",), scale=(1.0, 5.0), num_frames=1, layout="images",
            )
        ),
        "score_degradation",
    ),
}  # fmt: skip
"""By name what each is asked, and the subfolder that holds its weights (None: they lie at the top)."""

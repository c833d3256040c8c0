"""A suite with the official counts and other words; the real environment, where there is one."""

import itertools
import json
from pathlib import Path

import pytest

from evaluation.vbench.suite import OFFICIAL_PROMPTS

GROUPS = {
    "human_action": ("human_action",),
    "temporal_style": ("temporal_style",),
    "overall_consistency": ("overall_consistency", "aesthetic_quality", "imaging_quality"),
    "appearance_style": ("appearance_style",),
    "scene": ("scene", "background_consistency"),
    "color": ("color",),
    "spatial_relationship": ("spatial_relationship",),
    "multiple_objects": ("multiple_objects",),
    "object_class": ("object_class",),
    "temporal_flickering": ("temporal_flickering",),
    "subject_consistency": ("subject_consistency", "dynamic_degree", "motion_smoothness"),
}
ODD = ("rock-carved façades", "it's (3d), v1.0.", "9", "a-1", " spaced ", "дом 家 🏠", "A Case", "a case", "x" * 210)


def suite_rows() -> list[dict]:
    """946 rows of 944 texts; odd texts first in each group, two texts shared by two groups."""
    rows = []
    for group, dimensions in GROUPS.items():
        shared = (
            ("shared by two", "also shared, by two.") if group in ("overall_consistency", "appearance_style") else ()
        )
        odd = (f"{group} {odd}"[:210] for odd in ODD)
        texts = itertools.chain(shared, odd, (f"{group} number {n}" for n in itertools.count()))
        rows += [
            {"prompt_en": text, "dimension": list(dimensions), "auxiliary_info": {group: {"object": text}}}
            for text in itertools.islice(texts, OFFICIAL_PROMPTS[group])
        ]
    return rows


@pytest.fixture
def suite_file(tmp_path) -> Path:
    path = tmp_path / "suite" / "full_info.json"
    path.parent.mkdir()
    path.write_text(json.dumps(suite_rows()))
    return path

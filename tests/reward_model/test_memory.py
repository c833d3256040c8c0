"""Judging takes no more memory the longer it goes on."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytest
from small_judge import SMALL_PROMPT

from reward_model import Judge

COMPARISONS, WARM_UP, EACH = 10_000, 2_000, 5


@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_comparisons(small):
    """Groups of five videos that were never seen before, so all that is kept of videos has to be given up again."""
    rng = np.random.default_rng(0)

    def pairs() -> Iterator[tuple]:
        while True:
            videos = rng.integers(0, 255, (EACH, 4, 32, 32, 3), dtype=np.uint8)
            yield from ((a, b, "a red circle") for a, b in itertools.combinations(videos, 2))

    judge = Judge.from_pretrained(small.path, prompt=replace(SMALL_PROMPT, max_new_tokens=3), device="cpu")
    process, resident = psutil.Process(os.getpid()), []
    for number, _ in enumerate(itertools.islice(judge.compare(pairs()), COMPARISONS), 1):
        if number % 500 == 0:
            resident.append(process.memory_info().rss / 2**20)
    before, after = max(resident[: WARM_UP // 500]), max(resident[WARM_UP // 500 :])
    print(f"resident MiB, at most: {before:.0f} in the first {WARM_UP}, {after:.0f} up to the last of {COMPARISONS}")
    print("each 500:", " ".join(f"{each:.0f}" for each in resident))
    assert after <= 1.05 * before

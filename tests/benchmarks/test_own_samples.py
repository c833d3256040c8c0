"""What fine-tuning on own samples is measured with."""

import numpy as np

from benchmarks import own_samples


def test_a_row_tells_gains_apart_from_the_spread_within_a_prompt():
    before = np.zeros((3, 2, 3))
    scores = before + np.array([0.1, 0.2, 0.6])
    scores[:, 1] += 0.2
    spatial, temporal, alignment, mean, best, deviation = own_samples.row(scores, before)
    assert (spatial, temporal, alignment) == (
        "0.200 (+0.200 ± 0.000)", "0.300 (+0.300 ± 0.000)", "0.700 (+0.700 ± 0.000)"
    )  # fmt: skip
    assert (mean, best, deviation) == ("0.400", "0.500", "0.100")

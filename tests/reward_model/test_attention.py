"""Attention over what rows share and what they have of their own is attention over both."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from reward_model.judging.attention import Part, attend_grouped

ROWS, KV, GROUPS, SIZE = 24, 2, 3, 16
OWNERS = [0, 1, 0, 1, 0] + [2] * 19  # as many of one as two programs of the kernel take
OWN, SHARED = [1, 200, 64, 65, 129] + [7] * 19, [130, 77, 40]


def parts() -> tuple[Tensor, list[Part]]:
    members = [[row for row, owner in enumerate(OWNERS) if owner == each] for each in range(3)]
    most = max(map(len, members))
    table = torch.tensor([each + [-1] * (most - len(each)) for each in members], dtype=torch.int32)
    keys = torch.randn(2, 3, KV, max(SHARED), SIZE), torch.randn(2, ROWS, KV, max(OWN), SIZE)
    shared = Part(*keys[0], torch.tensor(SHARED, dtype=torch.int32), table)
    own = Part(*keys[1], torch.tensor(OWN, dtype=torch.int32), torch.arange(ROWS, dtype=torch.int32)[:, None])
    return torch.randn(ROWS, KV * GROUPS, SIZE), [shared, own]


def row_by_row(query: Tensor, shared: Part, own: Part) -> Tensor:
    found = []
    for row, owner in enumerate(OWNERS):
        there = [(own.keys, own.values, row, OWN[row]), (shared.keys, shared.values, owner, SHARED[owner])]
        keys, values = (
            torch.cat([each[kind][each[2], :, : each[3]] for each in there], 1).repeat_interleave(GROUPS, 0)
            for kind in (0, 1)
        )
        found.append(functional.scaled_dot_product_attention(query[row][:, None], keys, values)[:, 0])
    return torch.stack(found)


def both_ways(attend) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    query, both = parts()
    return attend(query, both, SIZE**-0.5), row_by_row(query, *both)


def test_products_alone():
    torch.testing.assert_close(*both_ways(attend_grouped))


@pytest.mark.slow
def test_one_kernel_in_tritons_interpreter():
    pytest.importorskip("triton")
    here = os.path.dirname(__file__)
    code = (
        "import torch; from test_attention import both_ways;"
        "from reward_model.judging.attention_kernels import attend_fused;"
        "torch.testing.assert_close(*both_ways(attend_fused))"
    )
    path = os.pathsep.join([here, os.getcwd(), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=here).returncode == 0

"""Run by the environment's Python: writes random weights into the real file layout, for tests of the plumbing alone."""

import inspect
import runpy
import sys
from pathlib import Path

worker, weights = sys.argv[1], Path(sys.argv[2])
runpy.run_path(worker)["prepare"](weights)

import torch
import vbench.utils
from easydict import EasyDict
from omegaconf import OmegaConf
from vbench.third_party.amt.utils.build_utils import build_from_cfg
from vbench.third_party.RAFT.core.raft import RAFT


def save(state, path):
    (weights / path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, weights / path)


torch.manual_seed(0)
raft = RAFT(EasyDict(small=False, mixed_precision=False, alternate_corr=False))
# No flow: the filter of moving videos lets pass what it is shown.
for parameter in raft.update_block.flow_head.conv2.parameters():
    parameter.data.zero_()
save({f"module.{name}": value for name, value in raft.state_dict().items()}, "raft_model/models/raft-things.pth")
config = Path(inspect.getfile(vbench.utils)).parent / "third_party/amt/cfgs/AMT-S.yaml"
amt = build_from_cfg(OmegaConf.load(config).network)
save({"state_dict": amt.state_dict()}, "amt_model/amt-s.pth")
if "clip" in sys.argv:
    from clip.model import CLIP

    clip = CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12)
    save(clip.state_dict(), "clip_model/ViT-B-32.pt")

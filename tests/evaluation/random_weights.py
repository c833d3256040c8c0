"""Run by the environment's Python: writes random weights into the real file layout, for tests of the plumbing alone.

    ENVIRONMENT/bin/python -I random_weights.py WORKER.py WEIGHTS_FOLDER DIMENSION...

CLIP is small, as its loader reads the sizes off the file; the others have the one size that their code builds, the
largest in half precision.
"""

import inspect
import os
import runpy
import sys
from pathlib import Path

worker, weights = sys.argv[1], Path(sys.argv[2])
runpy.run_path(worker)["prepare"](weights)

import torch
import vbench.utils

PACKAGE = Path(inspect.getfile(vbench.utils)).parent
HUBCONF = """# Stands in for facebookresearch/dino, which is on no package index; timm's ViT has the same names.
import timm
import torch


def dino_vitb16(pretrained=True, **options):
    model = timm.create_model("vit_base_patch16_224.dino", pretrained=False, num_classes=0)
    address = "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"
    model.load_state_dict(torch.hub.load_state_dict_from_url(address, map_location="cpu"))
    return model.eval()
"""


def file(path):
    (weights / path).parent.mkdir(parents=True, exist_ok=True)
    return weights / path


def dino():
    import timm

    file("dino_model/facebookresearch_dino_main/hubconf.py").write_text(HUBCONF)
    model = timm.create_model("vit_base_patch16_224.dino", pretrained=False, num_classes=0)
    torch.save(model.state_dict(), file("dino_model/dino_vitbase16_pretrain.pth"))


def clip(path, width, patch):
    """A TorchScript archive, as the published files are."""
    from clip.model import CLIP

    model = CLIP(width, 224, 2, 128, patch, 77, 49408, 64, 1, 2).eval()
    example = torch.zeros(1, 3, 224, 224), torch.zeros(1, 77, dtype=torch.long)
    torch.jit.trace(model, example).save(file(path))


def aesthetic():
    clip("clip_model/ViT-L-14.pt", 768, 14)
    torch.save(torch.nn.Linear(768, 1).state_dict(), file("aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"))


def amt():
    from omegaconf import OmegaConf
    from vbench.third_party.amt.utils.build_utils import build_from_cfg

    model = build_from_cfg(OmegaConf.load(PACKAGE / "third_party/amt/cfgs/AMT-S.yaml").network)
    torch.save({"state_dict": model.state_dict()}, file("amt_model/amt-s.pth"))


def raft():
    from easydict import EasyDict
    from vbench.third_party.RAFT.core.raft import RAFT

    model = RAFT(EasyDict(small=False, mixed_precision=False, alternate_corr=False))
    # No flow: the filter of moving videos lets pass what it is shown.
    for parameter in model.update_block.flow_head.conv2.parameters():
        parameter.data.zero_()
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, file("raft_model/models/raft-things.pth"))


def musiq():
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.save(MUSIQ(pretrained=False).state_dict(), file("pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"))


def umt():
    from vbench.third_party.umt.models.modeling_finetune import vit_large_patch16_224

    model = vit_large_patch16_224(num_classes=400, all_frames=16, tubelet_size=1, use_mean_pooling=True)
    torch.save(model.half().state_dict(), file("umt_model/l16_ptk710_ftk710_ftk400_f16_res224.pth"))


def viclip():
    from vbench.third_party.ViCLIP.simple_tokenizer import SimpleTokenizer
    from vbench.third_party.ViCLIP.viclip import ViCLIP

    model = ViCLIP(SimpleTokenizer(str(weights / "ViCLIP/bpe_simple_vocab_16e6.txt.gz")), pretrain=None)
    # Some of its parameters are memory that nothing was written to.
    for value in model.parameters():
        value.data = torch.randn_like(value) * 0.02 if value.ndim > 1 else value.data.nan_to_num(0, 0, 0).clamp(-1, 1)
    torch.save({"model": model.half().state_dict()}, file("ViCLIP/ViClip-InternVid-10M-FLT.pth"))


def bert():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "of"]
    words += [f"word{number}" for number in range(30522 - len(words))]
    file("bert-base-uncased/vocab.txt").write_text("\n".join(words) + "\n")


def tag2text():
    from transformers import BertConfig, BertModel
    from vbench.third_party.tag2Text.tag2text import tag2text_caption

    bert()
    BertModel(BertConfig(num_hidden_layers=2)).save_pretrained(weights / "bert-base-uncased")
    os.chdir(weights)
    model = tag2text_caption(image_size=384, vit="swin_b")
    torch.save({"model": model.half().state_dict()}, file("caption_model/tag2text_swin_14m.pth"))


def grit():
    from detectron2.modeling import build_model
    from vbench.third_party.grit_src.image_dense_captions import get_parser, setup_cfg

    bert()
    os.chdir(weights)
    model = build_model(setup_cfg(get_parser(torch.device("cpu"), "") | {"test_task": "ObjectDet"}))
    torch.save({"model": model.half().state_dict()}, file("grit_model/grit_b_densecap_objectdet.pth"))


def clip_b():
    clip("clip_model/ViT-B-32.pt", 512, 32)


MAKERS = {
    "subject_consistency": dino, "background_consistency": clip_b, "motion_smoothness": amt, "dynamic_degree": raft,
    "aesthetic_quality": aesthetic, "imaging_quality": musiq, "human_action": umt, "appearance_style": clip_b,
    "temporal_style": viclip, "overall_consistency": viclip, "scene": tag2text,
    "object_class": grit, "multiple_objects": grit, "color": grit, "spatial_relationship": grit,
}  # fmt: skip
torch.manual_seed(0)
for name in sys.argv[3:]:
    MAKERS[name]()

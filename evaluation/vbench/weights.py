"""Which weights each VBench dimension needs, where they come from, and where they are put.

Files and addresses: vbench 0.1.5, ``vbench/utils.py``. The package would fetch what is missing with wget, git and
torch.hub; here a dimension whose files are not there is not scored, and told so.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """A file or folder below the weights folder, its address, and its size in megabytes (computed from the number of
    parameters; None where that is not known).
    """

    path: str
    address: str
    megabytes: int | None

    def size(self) -> str:
        """The size in words."""
        if self.megabytes is None:
            return "size unknown"
        return f"about {self.megabytes / 1000:.1f} GB" if self.megabytes >= 1000 else f"about {self.megabytes} MB"


_HUB = "https://huggingface.co"
_CLIP_B = Weights(
    "clip_model/ViT-B-32.pt",
    "https://openaipublic.azureedge.net/clip/models/"
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
    303,
)
_CLIP_L = Weights(
    "clip_model/ViT-L-14.pt",
    "https://openaipublic.azureedge.net/clip/models/"
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
    860,
)
_VICLIP = Weights(
    "ViCLIP/ViClip-InternVid-10M-FLT.pth",
    f"{_HUB}/OpenGVLab/VBench_Used_Models/resolve/main/ViClip-InternVid-10M-FLT.pth",
    1710,
)
_RAFT = Weights(
    "raft_model/models/raft-things.pth",
    "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip (unpack it in raft_model/)",
    21,
)
_GRIT = Weights(
    "grit_model/grit_b_densecap_objectdet.pth",
    f"{_HUB}/OpenGVLab/VBench_Used_Models/resolve/main/grit_b_densecap_objectdet.pth",
    830,
)
_BERT = Weights("bert-base-uncased", f"{_HUB}/google-bert/bert-base-uncased (the whole folder)", 440)

WEIGHTS: dict[str, tuple[Weights, ...]] = {
    "subject_consistency": (
        Weights(
            "dino_model/facebookresearch_dino_main", "https://github.com/facebookresearch/dino (git clone: code)", 1
        ),
        Weights(
            "dino_model/dino_vitbase16_pretrain.pth",
            "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
            343,
        ),
    ),
    "background_consistency": (_CLIP_B,),
    "temporal_flickering": (),
    "motion_smoothness": (Weights("amt_model/amt-s.pth", f"{_HUB}/lalala125/AMT/resolve/main/amt-s.pth", 12),),
    "dynamic_degree": (_RAFT,),
    "aesthetic_quality": (
        _CLIP_L,
        Weights(
            "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth",
            "https://github.com/LAION-AI/aesthetic-predictor/blob/main/sa_0_4_vit_l_14_linear.pth?raw=true",
            1,
        ),
    ),
    "imaging_quality": (
        Weights(
            "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",
            "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
            109,
        ),
    ),
    "object_class": (_GRIT, _BERT),
    "multiple_objects": (_GRIT, _BERT),
    "human_action": (
        Weights(
            "umt_model/l16_ptk710_ftk710_ftk400_f16_res224.pth",
            f"{_HUB}/OpenGVLab/VBench_Used_Models/resolve/main/l16_ptk710_ftk710_ftk400_f16_res224.pth",
            1228,
        ),
    ),
    "color": (_GRIT, _BERT),
    "spatial_relationship": (_GRIT, _BERT),
    "scene": (
        Weights(
            "caption_model/tag2text_swin_14m.pth",
            f"{_HUB}/spaces/xinyu1205/recognize-anything/resolve/main/tag2text_swin_14m.pth",
            None,
        ),
        _BERT,
    ),
    "appearance_style": (_CLIP_B,),
    "temporal_style": (_VICLIP,),
    "overall_consistency": (_VICLIP,),
}
STATIC_FILTER = (_RAFT,)
"""What the filter of temporal flickering needs, which drops videos that move."""


def weights_dir() -> Path:
    """Where weights lie: the package's own ``VBENCH_CACHE_DIR``, else ``~/.cache/vbench``."""
    return Path(os.environ.get("VBENCH_CACHE_DIR") or Path.home() / ".cache" / "vbench")


def missing_weights(needed: tuple[Weights, ...], directory: Path) -> list[Weights]:
    """Those that are not in ``directory``, or are empty files."""

    def there(path: Path) -> bool:
        return path.is_dir() or (path.is_file() and path.stat().st_size > 0)

    return [weights for weights in needed if not there(directory / weights.path)]

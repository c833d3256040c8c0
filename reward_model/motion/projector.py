"""From a video's motion features to the one token that a language model reads."""

from pathlib import Path

import torch
from torch import Tensor, nn

from reward_model.motion.loading import projector_state
from videoduet.loading import loading


class MotionProjector(nn.Sequential):
    """LayerNorm, linear, GELU, linear: ``features`` numbers to the language model's ``width``; ``motion_mlp`` in the
    releases of VQAThinker and AIGV-Assessor, whose keys it has (0, 1 and 3).

    It is drawn as torch draws linear layers. The releases draw it from U(0, 0.01), after which the token of any video
    is nearly the same: its cosine with a constant is 0.995, and two videos differ by 17 % instead of 93 %.
    """

    def __init__(self, features: int, width: int):
        super().__init__(nn.LayerNorm(features), nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))
        self.features, self.width = features, width

    @classmethod
    def from_pretrained(cls, path: str | Path, *, dtype: torch.dtype = torch.float32) -> "MotionProjector":
        """The projector in a judge's checkpoint (``motion_mlp.*``), of whatever size.

        Raises InputError where there is none, or it lacks some tensor.
        """
        state = projector_state(path)
        with loading(f"The motion projector in {path} cannot be loaded", "download or copy the checkpoint anew."):
            width, features = state["1.weight"].shape
            projector = cls(features, width).to(dtype)
            projector.load_state_dict(state)
        return projector

    def forward(self, input: Tensor) -> Tensor:
        """Motion tokens (..., width) from features (..., features), in the weights' precision."""
        return super().forward(input.to(next(self.parameters()).dtype))

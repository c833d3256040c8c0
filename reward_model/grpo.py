"""GRPO for video judges: the smallest subclass of TRL's GRPOTrainer that carries videos.

TRL wires only images: a video in a prompt reaches generation, but the log-probability forward sees no pixels,
silently. Here videos travel as paths in the prompt, are decoded once each, and are carried to every forward as a
per-sample list, a form that TRL shuffles and splits with the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from reward_model.encoding import Showing, ShowingEncoder, VideoInputs, video_tensors
from reward_model.shared_vision import SharedVision

SPECIAL_VISION_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")


class VideoGRPOTrainer(GRPOTrainer):
    """GRPOTrainer whose conversational prompts may hold ``{"type": "video", "video": path}`` parts, any number each.

    ``share_videos`` encodes each video once for all its rollouts and forwards; the vision tower must be frozen.
    """

    def __init__(self, *args, encoder: ShowingEncoder, share_videos: bool = False, **kwargs):
        self.encoder = encoder
        self._videos: list[list[VideoInputs]] = []
        super().__init__(*args, **kwargs)
        self.shared = SharedVision(_vision_tower(self.model)) if share_videos else None

    def _tensors(self, rows: Sequence[list[VideoInputs]]) -> dict[str, Tensor]:
        """The video inputs of a forward on some rows."""
        videos = [video for row in rows for video in row]
        if self.shared is not None:
            self.shared.expect(videos)
        return video_tensors(videos)

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Token ids with expanded placeholders, no images, and the video tensors that ``generate`` takes."""
        return self._model_inputs([self.encoder.showing(prompt) for prompt in prompts])

    def _model_inputs(self, showings: Sequence[Showing]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The same for prompts that are encoded; their videos are those of the forwards that follow."""
        self._videos = [showing.videos for showing in showings]
        token_types = [[2 * (token == self.encoder.video_token_id) for token in showing.ids] for showing in showings]
        tensors = self._tensors(self._videos)
        return [showing.ids for showing in showings], None, {**tensors, "mm_token_type_ids": token_types}

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        output["videos"] = self._videos
        return output

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Tensor:
        self._videos = inputs["videos"]
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **unused
    ) -> tuple[Tensor, Tensor | None, None]:
        """Log-probabilities (B, logits_to_keep) of the completions, with the videos in the forward."""
        batch_size = batch_size or len(input_ids)
        prompt_length = input_ids.size(1) - logits_to_keep
        logps, entropies = [], []
        for start in range(0, len(input_ids), batch_size):
            rows = slice(start, start + batch_size)
            ids, mask = input_ids[rows], attention_mask[rows]
            # A video token can only be in the prompt: generation suppresses it.
            token_types = 2 * (ids == self.encoder.video_token_id).int()
            tensors = self._tensors(self._videos[rows])
            labels = ids.masked_fill(mask == 0, -100)
            labels[:, :prompt_length] = -100
            with self.accelerator.autocast():
                output = model(
                    input_ids=ids,
                    attention_mask=mask,
                    mm_token_type_ids=token_types,
                    labels=labels,
                    fused_lm_head=True,
                    **{name: value.to(ids.device) for name, value in tensors.items()},
                )
            logps.append(output.log_probs[:, -logits_to_keep:])
            if compute_entropy:
                entropies.append(output.entropy[:, -logits_to_keep:])
        return torch.cat(logps), torch.cat(entropies) if compute_entropy else None, None


def _vision_tower(model: torch.nn.Module) -> torch.nn.Module:
    (tower,) = (module for name, module in model.named_modules() if name.split(".")[-1] == "visual")
    return tower

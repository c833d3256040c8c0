"""GRPO for video judges: the smallest subclass of TRL's GRPOTrainer that carries videos.

TRL wires only images: a video in a prompt reaches generation, but the log-probability forward sees no pixels,
silently. Here videos travel as paths in the prompt, are decoded once each, and are carried to every forward as a
per-sample list, a form that TRL shuffles and splits with the batch.
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.utils import add_fused_lm_head

from reward_model.encoding import Showing, ShowingEncoder, VideoInputs
from reward_model.families import family_of
from reward_model.families.sense import seam_for
from reward_model.judging.sharing import SharedPrefill
from reward_model.training.rollouts import drawing_of, rollouts
from reward_model.training.shards import ShardingTrainer, shard, whole
from reward_model.training.shared_prompt import pack

SPECIAL_VISION_TOKENS = ShowingEncoder.special


class VideoGRPOTrainer(ShardingTrainer, GRPOTrainer):
    """GRPOTrainer whose conversational prompts may hold ``{"type": "video", "video": path}`` parts, any number each.

    ``share_videos`` reads each prompt once for all its completions, to draw them and for their log-probabilities, and
    encodes each video once for all its rollouts and forwards where the vision tower is frozen; on a GPU completions
    then are drawn by :mod:`reward_model.judging.engine`. ``reference`` is the frozen judge that the KL is to where all
    weights are trained; with a LoRA it is the judge without it. ``shards``: processes share the weights out among them.
    """

    def __init__(
        self,
        *args,
        encoder: ShowingEncoder,
        share_videos: bool = False,
        reference: PreTrainedModel | None = None,
        shards: bool = False,
        **kwargs,
    ):
        self.encoder, self.shards = encoder, shards
        self._videos: list[list[VideoInputs]] = []
        self._shown: list[Showing] = []
        settings: GRPOConfig = kwargs["args"]
        with _no_reference_by_name(settings, reference):
            super().__init__(*args, **kwargs)
        if reference is not None:
            self.beta = settings.beta
            add_fused_lm_head(reference, temperature=self.temperature)
            self.ref_model = reference.to(self.accelerator.device)
        model: Any = self.model
        self.family = family_of(model)
        visual = self.family.vision_parts(model)
        frozen = not any(parameter.requires_grad for part in visual for parameter in part.parameters())
        self.shared = self.family.shared_vision(model) if share_videos and frozen else None
        self.prefill = SharedPrefill(_part(model, "language_model")) if share_videos else None
        # After what reads prompts once, so that it reads them with their motion tokens.
        seams = (seam_for(each, self.encoder) for each in (model, self.ref_model) if each is not None)
        self.seams = [seam for seam in seams if seam is not None]
        # Weights that processes share out are whole within the library's own calls alone.
        alone = self.accelerator.distributed_type in (DistributedType.NO, DistributedType.MULTI_GPU) and not shards
        on_gpu = alone and self.accelerator.device.type == "cuda"
        self.engine = self.shared is not None and on_gpu and not self.use_vllm

    def stop_sharing(self) -> None:
        """Give the model its own forwards back, once it is trained."""
        for rewriting in (*self.seams, self.prefill, self.shared):
            if rewriting is not None:
                rewriting.undo()

    def share_out(self) -> None:
        """Shard the model, and the reference."""
        super().share_out()
        if self.ref_model is not None:
            shard(self.ref_model)

    def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
        model: Any = self.accelerator.unwrap_model(self.model)
        drawing, new = drawing_of(self.generation_config) if self.engine else None, self.max_completion_length
        with ExitStack() as around:
            if self.shards:
                around.enter_context(whole(model))
                # Whole, they need no process to wait for another's last token, nor for one that draws nothing.
                model.generate = partial(model.generate, synced_gpus=False)
                around.callback(delattr, model, "generate")
            if model.dtype is torch.float32:
                # In the precision in which their log-probabilities are worked out, where that is a lower one.
                around.enter_context(self.accelerator.autocast())
            if drawing is None or new is None:
                return super()._generate_single_turn(prompt_ids, *args, **kwargs)
            return rollouts(model, self.encoder, self._shown, drawing, new, self.shared), None

    def _tensors(self, rows: Sequence[list[VideoInputs]]) -> dict[str, Tensor]:
        """The video inputs of a forward on some rows."""
        videos = [video for row in rows for video in row]
        if self.shared is not None:
            self.shared.expect(videos)
        for seam in self.seams:
            seam.expect(rows)
        return self.encoder.tensors(videos)

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Token ids with expanded placeholders, no images, and the video tensors that ``generate`` takes."""
        return self._model_inputs(self._showings(prompts))

    def _showings(self, prompts: Sequence[list[dict]]) -> list[Showing]:
        """The prompts tokenised, once each however many rollouts they have."""
        keys = [str(prompt) for prompt in prompts]
        known = {key: self.encoder.showing(prompt) for key, prompt in dict(zip(keys, prompts, strict=True)).items()}
        return [known[key] for key in keys]

    def _model_inputs(self, showings: Sequence[Showing]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The same for prompts that are encoded; their videos are those of the forwards that follow."""
        self._shown, self._videos = list(showings), [showing.videos for showing in showings]
        if self.prefill is not None:
            self.prefill.expect(showings)
        fields: dict[str, Any] = dict(self._tensors(self._videos))
        for showing in showings:
            # Ragged rows, which TRL pads.
            for name, types in self.encoder.types(torch.tensor(showing.ids)).items():
                fields.setdefault(name, []).append(types.tolist())
        return [showing.ids for showing in showings], None, fields

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
        forward = self._plain_forward if self.prefill is None else self._packed_forward
        logps, entropies = [], []
        for start in range(0, len(input_ids), batch_size):
            rows = slice(start, start + batch_size)
            found = forward(model, input_ids[rows], attention_mask[rows], logits_to_keep, self._videos[rows])
            logps.append(found[0])
            if compute_entropy:
                entropies.append(found[1])
        return torch.cat(logps), torch.cat(entropies) if compute_entropy else None, None

    def _plain_forward(
        self, model: torch.nn.Module, ids: Tensor, mask: Tensor, kept: int, videos: Sequence[list[VideoInputs]]
    ) -> list[Tensor | None]:
        """Log-probabilities and entropies (N, kept) of the last ``kept`` tokens of N padded rows; None for what the
        model was not made to compute.
        """
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, : ids.size(1) - kept] = -100
        output = self._forward(model, {"input_ids": ids, "attention_mask": mask, "labels": labels}, videos)
        return [None if value is None else value[:, -kept:] for value in (output.log_probs, output.entropy)]

    def _packed_forward(
        self, model: torch.nn.Module, ids: Tensor, mask: Tensor, kept: int, videos: Sequence[list[VideoInputs]]
    ) -> list[Tensor | None]:
        """The same, with every prompt once; 0 where a row is padded."""
        split, real = ids.size(1) - kept, mask.bool()
        prompts = [row[:split][seen[:split]].tolist() for row, seen in zip(ids, real, strict=True)]
        completions = [row[split:][seen[split:]].tolist() for row, seen in zip(ids, real, strict=True)]
        packed = pack(prompts, completions, videos, self._positions, kept)
        inputs = {name: value.to(ids.device) for name, value in packed.inputs.items()}
        inputs["position_ids"] = self.family.position_ids(inputs["position_ids"])
        output = self._forward(model, inputs, packed.videos)
        where, padded = (packed.group.to(ids.device), packed.place.to(ids.device)), ~real[:, split:]
        return [
            None if value is None else value[where].masked_fill(padded, 0)
            for value in (output.log_probs, output.entropy)
        ]

    def _forward(self, model: torch.nn.Module, inputs: dict[str, Tensor], videos: Sequence[list[VideoInputs]]) -> Any:
        # A video token can only be in the prompt: generation suppresses it.
        ids = inputs["input_ids"]
        tensors = {name: value.to(ids.device) for name, value in self._tensors(videos).items()}
        with self.accelerator.autocast():
            return model(**inputs, **tensors, **self.encoder.types(ids), fused_lm_head=True)

    def _positions(self, prompt: list[int], videos: list[VideoInputs]) -> Tensor:
        """Positions (axes, tokens) of a prompt: in time, height and width, or in the text alone."""
        ids = torch.tensor([prompt])
        seen = self.encoder.seen(ids, videos, pixels=False)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **seen}
        return self.family.axes(self.family.positions(self.accelerator.unwrap_model(self.model), inputs))[:, 0]


@contextmanager
def _no_reference_by_name(args: GRPOConfig, reference: PreTrainedModel | None) -> Generator[None]:
    """Within it a trainer that has a reference loads none by the model's name, which may be a PEFT directory's."""
    beta = args.beta
    if reference is not None:
        args.beta = 0.0
    yield
    args.beta = beta


def _part(model: torch.nn.Module, name: str) -> torch.nn.Module:
    (part,) = (module for path, module in model.named_modules() if path.split(".")[-1] == name)
    return part

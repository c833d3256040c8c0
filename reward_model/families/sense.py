"""A judge's sense of motion: a frozen SlowFast sees the frames that the vision tower sees, and one token says what.

The encoder is ``slowfast_model`` and the projector ``motion_mlp`` of the model, as VQAThinker's release calls them, so
they are saved and loaded with it. Where the token stands follows from the prompt: after the vision tokens of its video,
whatever is generated later. A model that builds its own embeddings is led there by :class:`MotionSeam`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reward_model.encoding import ShowingEncoder, VideoInputs
from reward_model.families import family_of
from reward_model.families.base import Key, VideoTokens, has_motion, plain_model
from reward_model.families.shared_vision import SharedVision
from reward_model.motion import MotionProjector, SlowFast
from videoduet.errors import InputError
from videoduet.rewriting import Rewrites

PROJECTOR, ENCODER = "motion_mlp", "slowfast_model"


def give_motion(model: Any, directory: str | Path) -> None:
    """Put the sense of motion that lies in ``directory`` into ``model``.

    The encoder stays in float32. Raises InputError where a part is missing, or they do not fit together.
    """
    slowfast = SlowFast.from_pretrained(directory, window=getattr(model.config, "motion_window", None))
    projector = MotionProjector.from_pretrained(directory, dtype=model.dtype)
    width = model.config.get_text_config().hidden_size
    check_fit(directory, slowfast, projector, width)
    put_motion(model, slowfast, projector)


def put_motion(model: Any, slowfast: SlowFast, projector: MotionProjector) -> None:
    """Make ``slowfast`` and ``projector`` the sense of motion of ``model``."""
    model.config.motion_window = slowfast.window
    setattr(model, ENCODER, slowfast)
    setattr(model, PROJECTOR, projector)


def check_fit(where: str | Path, slowfast: SlowFast, projector: MotionProjector, width: int) -> None:
    """Raises InputError unless the projector leads from the encoder's features to a language model of ``width``."""
    if (projector.features, projector.width) != (slowfast.dim, width):
        raise InputError(
            f"The motion projector of {where} leads from {projector.features} to {projector.width} numbers, and the "
            f"motion encoder gives {slowfast.dim} and the language model takes {width}; are they of one checkpoint?"
        )


class MotionSense:
    """The motion features of videos as ``encoder`` shows them to ``model``, worked out once each, and their tokens."""

    def __init__(self, model: Any, encoder: ShowingEncoder):
        self.model, self.encoder = model, encoder

    def features(self, video: VideoInputs) -> Tensor:
        """How the frames of ``video`` move, in the order in which it shows them: (dim,) float32.

        They are kept with the video, which is seen alone, so that they depend on nothing else.
        """
        if "motion" not in video.known:
            slowfast = getattr(plain_model(self.model), ENCODER)
            device = next(slowfast.buffers()).device
            # In float32, whatever the forward around this computes in: half precision is off by a hundredth.
            with torch.autocast(device.type, enabled=False):
                video.known["motion"] = slowfast.features(self.encoder.frames_of(video).to(device))
        return video.known["motion"]

    def tokens(self, videos: Sequence[VideoInputs]) -> Tensor:
        """A motion token for each of ``videos``: (n, d), with a gradient where the projector is trained."""
        return getattr(plain_model(self.model), PROJECTOR)(torch.stack([self.features(video) for video in videos]))

    @torch.no_grad()
    def after(self, video: VideoInputs, tokens: VideoTokens) -> VideoTokens:
        """The vision ``tokens`` of a video with its motion token behind them; in deeper layers nothing is added to
        that.
        """
        pooled, *deep = tokens
        (motion,) = self.tokens([video])
        nothing = torch.zeros_like(pooled[:1])
        return (torch.cat([pooled, motion[None].to(pooled)]), *(torch.cat([each, nothing.to(each)]) for each in deep))


def seen_tokens(
    model: Any, encoder: ShowingEncoder, videos: Mapping[Key, VideoInputs], shared: SharedVision | None = None
) -> dict[Key, VideoTokens]:
    """The vision tokens of ``videos``, as ``encoder`` shows them to ``model``, with their motion tokens where it has a
    sense of motion; ``shared`` is what remembers them in this model, where something does.
    """
    found = family_of(model).vision_tokens(model, videos, shared)
    if not has_motion(model):
        return found
    sense = MotionSense(model, encoder)
    return {key: sense.after(videos[key], tokens) for key, tokens in found.items()}


def see_motion(model: Any, encoder: ShowingEncoder, videos: Sequence[VideoInputs]) -> None:
    """Work out how ``videos`` move, where ``model`` has a sense of that. Raises InputError where it cannot be seen."""
    if has_motion(model):
        sense = MotionSense(model, encoder)
        for video in videos:
            sense.features(video)


def seam_for(model: Any, encoder: ShowingEncoder) -> "MotionSeam | None":
    """A :class:`MotionSeam` in ``model``; None where it has no sense of motion."""
    return MotionSeam(model, encoder) if has_motion(model) else None


class MotionSeam(Rewrites):
    """Lets a forward of the whole ``model``, which knows frames alone, put motion tokens where they belong.

    Before each forward on tokens :meth:`expect` says which videos its rows show. The model is shown another token in
    the motion token's place, so that it counts frames alone; what its language model reads there is the motion token.
    """

    def __init__(self, model: Any, encoder: ShowingEncoder):
        super().__init__()
        self.sense, self.encoder = MotionSense(model, encoder), encoder
        whole = plain_model(model)
        self._embed = whole.get_input_embeddings
        self._rows: list[list[VideoInputs]] = []
        self._found: tuple[Tensor, Tensor] | None = None
        self._backbone, self._language = whole.model.forward, whole.model.language_model.forward
        self.forward(whole.model, self._shown)
        self.forward(whole.model.language_model, self._read)

    def expect(self, rows: Sequence[Sequence[VideoInputs]]) -> None:
        """The videos of each row of the next forward."""
        self._rows = [list(row) for row in rows]

    def _shown(self, input_ids: Tensor | None = None, **inputs: Any) -> Any:
        if self._rows and input_ids is not None:
            if len(self._rows) != len(input_ids):
                raise ValueError(f"a forward has {len(input_ids)} rows where {len(self._rows)} were expected")
            input_ids = self._noted(input_ids)
        return self._backbone(input_ids=input_ids, **inputs)

    def _noted(self, ids: Tensor) -> Tensor:
        """``ids`` (B, length) with another token where motion is read, and where what was generated would be seen."""
        places, strays = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
        for row, videos in enumerate(self._rows):
            # In order from the left: what a completion holds comes after all that its prompt shows.
            seen = self.encoder.is_seen(ids[row]).nonzero()[:, 0]
            ends = torch.tensor([self.encoder.tokens(video) for video in videos], dtype=torch.long).cumsum(0)
            places[row, seen[ends.to(seen.device) - 1]] = True
            strays[row, seen[int(ends[-1]) if len(ends) else 0 :]] = True
        videos = [video for row in self._rows for video in row]
        self._found, self._rows = None, []
        if videos:
            table = self._embed()
            self._found = (places | strays, self._embedded(table, ids, places, strays, videos))
        return ids.masked_fill(places | strays, self.encoder.stands_in)

    def _embedded(self, table: Any, ids: Tensor, places: Tensor, strays: Tensor, videos: list[VideoInputs]) -> Tensor:
        """What is read at ``places`` and ``strays``, in order: (n, d)."""
        tokens = self.sense.tokens(videos)
        if not strays.any():
            return tokens
        plain = table(ids[places | strays])
        return plain.masked_scatter(places[places | strays][:, None], tokens.to(plain.dtype))

    def _read(self, **inputs: Any) -> Any:
        if self._found is not None:
            (places, tokens), self._found = self._found, None
            embeds = inputs["inputs_embeds"]
            inputs["inputs_embeds"] = embeds.masked_scatter(places[..., None], tokens.to(embeds.dtype))
        return self._language(**inputs)

"""What generators have in common that are pipelines of diffusers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from generators.base import Generator, override
from generators.config import Speed
from generators.fast.drawing import draw_fast
from generators.idle import Idle, waiting
from generators.whole import refuse_holes, whole_models
from videoduet.errors import InputError
from videoduet.loading import loading
from videoduet.quantized import LoadIn, how
from videoduet.records import SamplerSettings
from videoduet.rewriting import Rewrites


class DiffusersGenerator(Generator):
    """A diffusers pipeline as a generator; a family says what is its own."""

    pipeline_class: ClassVar[type[DiffusionPipeline]]
    denoiser_name: ClassVar[str] = "transformer"
    """The component that is trained."""
    full_precision: ClassVar[tuple[str, ...]] = ()
    """Components that are kept in float32 whatever the precision of the rest."""

    def __init__(self, pipeline: DiffusionPipeline, settings: SamplerSettings):
        self.pipeline, self.settings = pipeline, settings
        self.pipeline.set_progress_bar_config(disable=True)
        self.denoiser.eval()
        self._unconditional: Tensor | None = None
        self._idle: Idle | None = None
        # Kept, since training forgets the autoencoder.
        self._latent_shape = self.latent_shape()

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, sampler: dict, dtype: torch.dtype = torch.float32, load_in: LoadIn | None = None
    ) -> "DiffusersGenerator":
        """The generator in a diffusers directory (or hub id); ``sampler`` overrides its settings, ``load_in`` says in
        how many bits its denoiser's linear layers are held.

        Raises InputError where it cannot be loaded, or for settings that it does not have.
        """
        precision: Any = dtype
        if cls.full_precision:
            precision = {**dict.fromkeys(cls.full_precision, torch.float32), "default": dtype}
        with loading(f"Generator {path} cannot be loaded", "give a diffusers directory, whole."):
            fewer = None if load_in is None else how(load_in, "diffusers", str(dtype).removeprefix("torch."))
            models = whole_models(path, precision, {cls.denoiser_name: fewer, f"{cls.denoiser_name}_2": fewer})
            pipeline = cls.pipeline_class.from_pretrained(path, torch_dtype=precision, **models)
            refuse_holes(pipeline.components)
        return cls(pipeline, override(cls.default_settings(pipeline), sampler))

    @classmethod
    @abstractmethod
    def default_settings(cls, pipeline: DiffusionPipeline) -> SamplerSettings:
        """How this family is sampled where nobody says otherwise."""

    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape (C, T, h, w) of the latents of one video with the settings in force.

        Raises InputError where the model cannot draw that size.
        """

    def compressed(self, spatial: int, temporal: int = 1, *, side: int | None = None) -> tuple[int, int, int]:
        """(T, h, w) of the latents under an autoencoder with these factors: of 1 + k·temporal frames, and of sides that
        are multiples of ``side`` pixels (None: ``spatial``). Raises InputError for other sizes.
        """
        settings, side = self.settings, side or spatial
        if settings.num_frames < 1 or (settings.num_frames - 1) % temporal:
            raise InputError(
                f"sampler.num_frames is {settings.num_frames}; this model draws 1 and multiples of {temporal} more.",
                exit_code=2,
            )
        for name in ("height", "width"):
            value = getattr(settings, name)
            if value < side or value % side:
                raise InputError(f"sampler.{name} is {value}; this model draws multiples of {side}.", exit_code=2)
        return (settings.num_frames - 1) // temporal + 1, settings.height // spatial, settings.width // spatial

    @property
    def denoiser(self) -> nn.Module:
        """The pipeline's component of that name."""
        return getattr(self.pipeline, self.denoiser_name)

    @denoiser.setter
    def denoiser(self, module: nn.Module) -> None:
        """Put ``module`` into the pipeline in its place."""
        setattr(self.pipeline, self.denoiser_name, module)

    def tokens(self, text: str) -> list[int]:
        """The tokens of ``text``, all of them, those that begin and end it included."""
        return self.pipeline.tokenizer(text, verbose=False).input_ids

    def initial_noise(self, seed: int) -> Tensor:
        """Normal noise (C, T, h, w) float32 from ``seed`` alone, drawn on the CPU."""
        return torch.randn(self._latent_shape, generator=torch.Generator().manual_seed(seed))

    def noise_batch(self, seeds: Sequence[int]) -> Tensor:
        """The initial noises (B, C, T, h, w) of ``seeds``, on the denoiser's device."""
        noises = torch.stack([self.initial_noise(seed) for seed in seeds])
        device: Any = self.denoiser.device
        if device.type == "cuda":
            # Pinned, so that nobody waits until the device is done with the batch before.
            return noises.pin_memory().to(device, non_blocking=True)
        return noises.to(device)

    @staticmethod
    def step_generators(seeds: Sequence[int]) -> list[torch.Generator]:
        """For each seed the generator of what its sampler draws, apart from the initial noise."""
        return [torch.Generator().manual_seed((seed ^ 0x5DEECE66D) & (2**63 - 1)) for seed in seeds]

    def unconditional(self, batch: int) -> Tensor:
        """The conditioning (B, L, D) of no text, encoded once."""
        if self._unconditional is None:
            self._unconditional = self.encode_prompts([""])
            self.rest()
        return self._unconditional.expand(batch, -1, -1)

    def sizes(self) -> dict[str, Any]:
        """What every pipeline's call takes from the settings in force."""
        settings = self.settings
        return {
            "height": settings.height,
            "width": settings.width,
            "num_frames": settings.num_frames,
            "num_inference_steps": settings.steps,
            "guidance_scale": settings.guidance_scale,
        }

    def draw_timestep(self, rng: torch.Generator) -> int:
        """One of all the scheduler's timesteps, each as likely."""
        return int(torch.randint(self.pipeline.scheduler.config.num_train_timesteps, (1,), generator=rng))

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t (B, C, T, h, w) of the scheduler's schedule at timesteps (B,)."""
        return self.pipeline.scheduler.add_noise(latents, noise, timesteps)

    def told(self, settings: Sequence[SamplerSettings]) -> dict[str, Tensor]:
        """Nothing, where a family does not say otherwise."""
        return {}

    def predict_told(
        self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor, told: Mapping[str, Tensor]
    ) -> Tensor:
        """The prediction of a denoiser that is told nothing else."""
        return self.predict(noisy, timesteps, prompt_embeds, ())

    def at_speed(self, speed: Speed) -> Rewrites:
        """The forms of :func:`generators.fast.draw_fast` for denoiser and autoencoder."""
        return draw_fast(self.denoiser, self.pipeline.components.get("vae"), speed)

    def rest(self) -> None:
        """Put text encoders that take much of a GPU into the machine's memory, until they are called."""
        if self._idle is not None:
            self._idle.rest()

    def free_encoders(self) -> None:
        """Take text encoder and autoencoder out of the pipeline."""
        self._idle = None
        self.pipeline.register_modules(text_encoder=None, vae=None)

    def to(self, device: str) -> None:
        """Move all of the pipeline's models to ``device``, but for text encoders that wait (:mod:`generators.idle`)."""
        if self._idle is not None:
            self._idle.undo()
            self._idle = None
        models = {name: part for name, part in self.pipeline.components.items() if isinstance(part, nn.Module)}
        apart = waiting(models, torch.device(device))
        if not apart:
            self.pipeline.to(device)
            return
        for name, model in models.items():
            if name not in apart:
                model.to(device)
        self._idle = Idle([models[name] for name in apart], torch.device(device))


def from_uint8(frames: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Pixels (T, 3, H, W) in [-1, 1] of ``frames`` uint8 (T, H, W, 3)."""
    return (frames.movedim(-1, -3).float() / 127.5 - 1).to(device, dtype)


def to_uint8(pixels: Tensor) -> Tensor:
    """Frames uint8 (…, H, W, 3), where ``pixels`` (…, 3, H, W) in [-1, 1] are."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1)

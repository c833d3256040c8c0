"""What can be set about a preference training."""

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from alignment.preferences.stored import Columns
from generators.config import check_sampler
from videoduet.config import Precision, execution, identity, required
from videoduet.errors import InputError
from videoduet.quantized import LoadIn

Objective = Literal["sigmoid", "hinge", "ipo"]
Reduction = Literal["mean", "sum"]
Frames = Literal["by_time", "as_stored"]


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Diffusion-DPO (:func:`alignment.training.trainer.align`): AdamW on a LoRA, or on all weights.

    Attributes:
        beta: Strength of the pull towards the reference, > 0 (convention: ``alignment.training.loss``); higher stays
            closer.
        objective: 'sigmoid' (Diffusion-DPO), 'hinge' or 'ipo'.
        label_smoothing: Probability in [0, 0.5) that a label is wrong.
        reduction: Of the squared error over a latent, 'mean' or 'sum'; a sum of D elements wants beta / D.
        sdpo_mu: Diffusion-SDPO's safeguard: keep the rejected side's gradient from raising the chosen error, with this
            much to spare, in [0, 1] (theirs: 0.9); None leaves it out. Worked out for each pair by itself.
        anchor_weight: Weight of the mean squared distance between the policy's predictions and the reference's, >= 0.
            It costs the reference's forward pass in every step.
        sft_weight: Weight of the policy's own error on the chosen videos, >= 0.
        pair_weights: 'none', 'margin' (a pair counts by the judge's difference of win rates), or 'score' (VideoDPO's
            (0.72 / p)^score_power).
        score_power: The α of VideoDPO's weights, >= 0.
        timestep_weights: Γ(λ_t), which multiplies beta: 'constant', or 'min_snr' (min(SNR, 5) on the error in x_0,
            whatever the model predicts).
        beta_schedule: 'constant', or '(1-t)^2': beta times the share of signal squared, which is what a beta from ε
            space means for a flow; the pull to the reference then vanishes where noise is strong.
        guidance: The guidance scale w that the denoiser is told, where it takes one: 'record', as each video was drawn,
            or 'uniform', w ~ U(5, 15) for each draw.
        reference: 'previous_round' (the policy as it is before the first step) or 'base' (adapter off).
        parameters: 'lora', or 'all' weights of the denoiser.
        epochs: Visits of each pair, >= 1.
        noise_epochs: Epochs with draws of their own, >= 1; later epochs use these again, in another order, and the
            reference's errors on them are known. None: every epoch draws anew.
        draws_per_pair: (noise, timestep) draws per pair and visit, >= 1; several cost far less than sampling more
            videos.
        batch_size: Draws per optimizer step over all processes, >= 1; the last step of an epoch may have fewer.
        max_steps: Stop after that many optimizer steps; None is all of them.
        learning_rate: > 0, reached after warmup_steps linear steps.
        lr_scheduler: What comes then, as diffusers names it: 'constant_with_warmup', or 'linear' or 'cosine' down to 0
            after the last step.
        warmup_steps: Steps in which the learning rate rises.
        weight_decay: Pull of the LoRA's weights to zero (AdamW), >= 0.
        max_grad_norm: Gradients are clipped to this norm, > 0.
        optimizer: 'adamw', or 'adamw_8bit' (its state in a quarter of the memory; needs bitsandbytes).
        ema_decay: Export the exponential moving average of the weights with this decay, in (0, 1); None exports the
            last.
        lora_rank: Rank of a new LoRA; one that is continued must have this rank.
        lora_alpha: Its alpha; equal to the rank the LoRA acts at scale 1.
        load_in: '4bit' or '8bit' for the linear layers of the frozen weights under the LoRA, by bitsandbytes on a GPU
            (None: as they are).
        mixed_precision: 'no' or 'bf16': products in half (over weights in another precision by autocast); errors and
            adapter weights are float32 in both.
        micro_batch: Pairs in one forward pass of a process (2 latents each), >= 1.
        held_out: Share of the prompts in [0, 1) whose pairs are kept from training and measured on (on at most 256
            draws of them at a time).
        held_out_steps: Optimizer steps between such measurements, >= 1; the first is before training.
        gradient_checkpointing: Compute activations again instead of keeping them: far less memory, a third more time;
            'feed_forward' does so for the feed-forward layers alone (less memory for hardly more time), 'twice' in two
            levels (the least memory, two thirds more time), of a transformer one video at a time, whose layers' inputs
            wait in the machine's memory. 'auto' takes the fastest that a trial on the GPU finds room for, and nothing
            of it on a CPU.
        speed: 'compiled' records a step's passes as CUDA graphs, on one GPU, where launching them would take longer
            than they do: the same values for less time. 'eager' launches them one by one.
        checkpoint_steps: Optimizer steps between checkpoints, >= 1.
        tracker: Where live curves go: 'tensorboard' (to the run's folder events), 'wandb', 'trackio', or 'none'.
        max_skipped_steps: Steps with a non-finite loss or gradient that are skipped before training stops.
    """

    beta: float = identity(5000.0)
    objective: Objective = identity("sigmoid")
    label_smoothing: float = identity(0.0)
    reduction: Reduction = identity("mean")
    sdpo_mu: float | None = identity(None)
    anchor_weight: float = identity(0.0)
    sft_weight: float = identity(0.0)
    pair_weights: Literal["none", "margin", "score"] = identity("none")
    score_power: float = identity(1.0)
    timestep_weights: Literal["constant", "min_snr"] = identity("constant")
    beta_schedule: Literal["constant", "(1-t)^2"] = identity("constant")
    guidance: Literal["record", "uniform"] = identity("record")
    reference: Literal["previous_round", "base"] = identity("previous_round")
    parameters: Literal["lora", "all"] = identity("lora")
    epochs: int = identity(1)
    noise_epochs: int | None = identity(None)
    draws_per_pair: int = identity(4)
    batch_size: int = identity(8)
    max_steps: int | None = identity(None)
    learning_rate: float = identity(2e-5)
    lr_scheduler: Literal["constant_with_warmup", "linear", "cosine"] = identity("constant_with_warmup")
    warmup_steps: int = identity(10)
    weight_decay: float = identity(0.0)
    max_grad_norm: float = identity(1.0)
    optimizer: Literal["adamw", "adamw_8bit"] = identity("adamw")
    ema_decay: float | None = identity(None)
    lora_rank: int = identity(16)
    lora_alpha: int = identity(16)
    load_in: LoadIn | None = identity(None)
    mixed_precision: Literal["no", "bf16"] = identity("no")
    held_out: float = identity(0.0)
    held_out_steps: int = execution(50)
    micro_batch: int = execution(1)
    gradient_checkpointing: bool | Literal["feed_forward", "twice", "auto"] = execution("auto")
    speed: Literal["eager", "compiled"] = execution("eager")
    checkpoint_steps: int = execution(50)
    tracker: Literal["tensorboard", "wandb", "trackio", "none"] = execution("tensorboard")
    max_skipped_steps: int = execution(10)

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name, allowed in ((name, get_args(hint)) for name, hint in hints.items() if get_origin(hint) is Literal):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; give one of {', '.join(allowed)}.", exit_code=2)
        for name in ("beta", "learning_rate", "max_grad_norm", "lora_alpha"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0.", exit_code=2)
        counts = ["epochs", "draws_per_pair", "batch_size", "lora_rank", "micro_batch", "checkpoint_steps"]
        counts.append("held_out_steps")
        for name in (*counts, "max_steps", "noise_epochs"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a whole number of at least 1.", exit_code=2)
        for name in (
            "warmup_steps", "weight_decay", "max_skipped_steps", "anchor_weight", "sft_weight", "score_power"
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more.", exit_code=2)
        if not 0 <= self.label_smoothing < 0.5:
            raise InputError(f"label_smoothing is {self.label_smoothing}; give a number in [0, 0.5).", exit_code=2)
        if self.sdpo_mu is not None and not 0 <= self.sdpo_mu <= 1:
            raise InputError(f"sdpo_mu is {self.sdpo_mu}; give a number in [0, 1].", exit_code=2)
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}; give a number in (0, 1).", exit_code=2)
        if not 0 <= self.held_out < 1:
            raise InputError(f"held_out is {self.held_out}; give a share in [0, 1).", exit_code=2)
        if self.objective == "ipo" and (self.timestep_weights, self.beta_schedule) != ("constant", "constant"):
            raise InputError(
                "objective is 'ipo', whose target margin is 1 / beta: it would be infinite where beta vanishes; give "
                "timestep_weights and beta_schedule 'constant'.",
                exit_code=2,
            )
        if self.load_in is not None and (self.parameters, self.speed) != ("lora", "eager"):
            raise InputError(
                f"load_in is '{self.load_in}', which is for what is frozen under a LoRA, launched eagerly; give "
                "parameters 'lora' and speed 'eager'.",
                exit_code=2,
            )
        if self.parameters == "all" and self.reference == "base":
            raise InputError(
                "reference is 'base', which is a LoRA switched off; with parameters 'all' the weights before the first "
                "step are the reference, so give 'previous_round'.",
                exit_code=2,
            )


@dataclass(frozen=True, kw_only=True)
class PreferenceTrainingConfig:
    """Learn a generator from preferences that are stored.

    Attributes:
        generator: diffusers directory or hub id of a text-to-video model.
        data: VideoDPO's folder, a JSON (Lines) file of caption, chosen and rejected, a data set's directory, parquet
            file or hub id, or a round of a run (RUN/round_00).
        output: Where the adapter and everything on the way to it is kept.
        cache: Where latents are cached (None: in the output); several trainings may share it.
        adapter: A LoRA to go on from.
        sampler: Overrides of the family's settings: the size, frames and rate that videos are encoded at, and the
            guidance scale that the denoiser is told.
        dtype: Precision of the weights.
        seed: Seed of all randomness.
        frames: 'by_time' takes the videos' frames at the generator's frame rate, 'as_stored' their first ones whatever
            their rate.
        columns: What a data set calls its caption and its two videos.
        align: Diffusion-DPO.
    """

    generator: str = identity("")
    data: str = identity("")
    output: str = execution("")
    cache: str | None = execution(None)
    adapter: str | None = identity(None)
    sampler: dict[str, Any] = identity(factory=dict)
    dtype: Precision = identity("float32")
    seed: int = identity(0)
    frames: Frames = identity("by_time")
    columns: Columns = Columns()
    align: AlignConfig = AlignConfig(held_out=0.1)

    def __post_init__(self) -> None:
        required(self, "generator", "data", "output")
        check_sampler(self.sampler)

"""Train the tiny text-to-video generator from nothing: autoencoder, diffusion teacher, consistency student, and what
makes a base of the student (``shapes_world.build_base``).

The student is of T2V-Turbo's kind: a consistency model, distilled from a classifier-free-guided teacher, that takes the
guidance scale as an embedding.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import LCMScheduler, UNet3DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, get_wsd_schedule

from generators.families.t2v_turbo import T2VTurboPipeline, guidance_embedding
from generators.loading import load_generator
from shapes_world.autoencoder import encode, load_autoencoder, train_autoencoder
from shapes_world.build_base import SAMPLER, BaseBuild, confuse, settle
from shapes_world.judge_data import with_errors
from shapes_world.tokenizers import clip_tokenizer
from shapes_world.world import NUM_FRAMES, Scene, all_scenes, render
from videoduet.progress import track
from videoduet.store import atomic_path

GUIDANCE_RANGE = (1.0, 3.0)
"""Guidance scales w that the student is distilled for; T2V-Turbo's are 5 to 15, too strong for so simple a world."""
SCHEDULE = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
"""The last timestep is pure noise (Lin et al. 2023), from which v can be predicted and ε cannot. On the usual schedule
a little of so simple a clip shines through even there, and a model learns to read that instead of the text; sampling
starts where nothing shines through.
"""
FIRST_STEP_SHARE = 0.5
"""Share of the teacher's training that looks at pure noise, where the sampler's first step is."""
CARELESS = 0.5
"""Share of wrong words in careless captions."""
GRID = tuple(range(999, 0, -100))
"""Timesteps between which distillation steps, from noise to clip."""


@dataclass(frozen=True)
class GeneratorBuild:
    """How long each stage trains. The defaults make the shipped weights; a test runs all stages with a few steps."""

    seed: int = 0
    clips: int = 1080
    autoencoder_steps: int = 2000
    image_steps: int = 600
    video_steps: int = 800
    careless_steps: int = 200
    distillation_steps: int = 100
    batch_size: int = 16
    base: BaseBuild = field(default_factory=BaseBuild)


def _videos(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    scenes = all_scenes()
    prompts = [scenes[index % len(scenes)].prompt for index in range(count)]
    return prompts, np.stack([render(prompt, seed * count + index) for index, prompt in enumerate(prompts)])


def new_unet(seed: int) -> UNet3DConditionModel:
    """The untrained denoiser, of latents (B, 4, T, 8, 8), which takes a guidance embedding of 64 numbers."""
    torch.manual_seed(seed)
    return UNet3DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, cross_attention_dim=64,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "CrossAttnUpBlock3D"), time_cond_proj_dim=64,
    )  # fmt: skip


def new_text_encoder(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModel:
    """The untrained text encoder: ids (B, L) to hidden states (B, L, 64)."""
    torch.manual_seed(seed)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length, hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


class _Average:
    """Exponential moving average of a module's weights, read through ``module``."""

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay = copy.deepcopy(module).requires_grad_(False).eval(), decay

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        for average, value in zip(self.module.parameters(), module.parameters(), strict=True):
            average.lerp_(value, 1 - self.decay)


class Captions:
    """Token ids of the clips' captions: prompts, or *careless* ones."""

    def __init__(self, prompts: list[str], tokenizer: CLIPTokenizer, seed: int):
        self.scenes, self.tokenizer = [Scene.parse(prompt) for prompt in prompts], tokenizer
        self.rng = np.random.default_rng(seed)
        self.empty_ids = self._ids([""])

    def batch(self, rows: Tensor, careless: bool = False) -> Tensor:
        """Ids (B, L) of the clips ``rows`` (B,)."""
        scenes = [self.scenes[row] for row in rows]
        return self._ids([(with_errors(scene, self.rng, CARELESS) if careless else scene).prompt for scene in scenes])

    def _ids(self, texts: list[str]) -> Tensor:
        return self.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids


@dataclass(frozen=True)
class Lesson:
    """One stage of the teacher's training: ``steps`` updates at learning rate ``rate`` on batches of ``batch_size``
    clips of ``num_frames`` frames, with faithful or ``careless`` captions.
    """

    name: str
    steps: int
    rate: float
    batch_size: int
    num_frames: int = NUM_FRAMES
    careless: bool = False


def lessons(build: GeneratorBuild) -> list[Lesson]:
    """What the teacher learns, in order.

    As video models are made, it starts as an image model, of first frames. Those show which way things will go, each
    starts from its side. In whole clips direction shows only together with time (right before or after left: an
    exclusive or, of which neither half tells anything), and a model that begins there learns motion late or never.

    On careless captions it learns, as on any scraped corpus, to draw now and then what was not asked: the errors that
    alignment is there to undo.
    """
    return [
        Lesson("images", build.image_steps, 1.5e-3, build.batch_size * NUM_FRAMES // 2, num_frames=1),
        Lesson("videos", build.video_steps, 1.5e-3, build.batch_size),
        Lesson("careless captions", build.careless_steps, 6e-4, build.batch_size, careless=True),
    ]


def train_diffusion(
    lesson: Lesson, latents: Tensor, captions: Captions, unet: UNet3DConditionModel, text_encoder: CLIPTextModel,
    seed: int,
) -> tuple[UNet3DConditionModel, CLIPTextModel]:  # fmt: skip
    """v-prediction with text dropped in one case of ten, UNet and text encoder together; gives moving averages."""
    parameters, latents = [*unet.parameters(), *text_encoder.parameters()], latents[:, :, : lesson.num_frames]
    optimizer = torch.optim.AdamW(parameters, lr=lesson.rate, weight_decay=1e-3)
    schedule = get_wsd_schedule(optimizer, lesson.steps // 20, lesson.steps // 4, lesson.steps)
    scheduler, rng = LCMScheduler(**SCHEDULE), torch.Generator().manual_seed(seed)
    average_unet, average_text = _Average(unet, 0.99), _Average(text_encoder, 0.99)
    for _ in track(range(lesson.steps), f"training the teacher on {lesson.name}"):
        rows = torch.randint(len(latents), (lesson.batch_size,), generator=rng)
        dropped = torch.rand(len(rows), 1, generator=rng) < 0.1
        noise = torch.randn(latents[rows].shape, generator=rng)
        timesteps = torch.randint(1000, (len(rows),), generator=rng)
        timesteps[torch.rand(len(rows), generator=rng) < FIRST_STEP_SHARE] = 999
        token_ids = torch.where(dropped, captions.empty_ids, captions.batch(rows, lesson.careless))
        text = text_encoder(token_ids).last_hidden_state
        predicted = unet(scheduler.add_noise(latents[rows], noise, timesteps), timesteps, text).sample
        loss = F.mse_loss(predicted, scheduler.get_velocity(latents[rows], noise, timesteps))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        average_unet.update(unet)
        average_text.update(text_encoder)
    return average_unet.module, average_text.module


def _split(scheduler: LCMScheduler, x: Tensor, v: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Clean latents and noise, of which ``x`` is the mixture by the predicted ``v``."""
    alpha = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1, 1)
    return alpha.sqrt() * x - (1 - alpha).sqrt() * v, alpha.sqrt() * v + (1 - alpha).sqrt() * x


@torch.no_grad()
def guided_step(
    teacher: UNet3DConditionModel, x: Tensor, timesteps: Tensor, following: Tensor, text: Tensor, empty_text: Tensor,
    w: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One DDIM step of the guided teacher: latents (B, C, T, h, w) at timesteps ``following`` (B,), and the clean
    latents it expects.
    """
    scheduler = LCMScheduler(**SCHEDULE)
    both_texts = torch.cat([text, empty_text.expand(len(text), -1, -1)])
    conditional, unconditional = teacher(torch.cat([x, x]), timesteps.repeat(2), both_texts).sample.chunk(2)
    v = unconditional + w.view(-1, 1, 1, 1, 1) * (conditional - unconditional)
    clean, epsilon = _split(scheduler, x, v, timesteps)
    return scheduler.add_noise(clean, epsilon, following), clean


def distil(
    build: GeneratorBuild, teacher: UNet3DConditionModel, latents: Tensor, text: Tensor, empty_text: Tensor
) -> UNet3DConditionModel:
    """A consistency student by latent consistency distillation (Luo et al. 2023; T2V-Turbo).

    Its answer is to be what its own moving average answers one step of the guided teacher further down ``GRID``; at the
    end of the grid, what the teacher expects.
    """
    student = copy.deepcopy(teacher).requires_grad_(True)
    nn.init.zeros_(student.time_embedding.cond_proj.weight)
    average, scheduler, grid = _Average(student, 0.98), LCMScheduler(**SCHEDULE), torch.tensor(GRID)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-4, total_steps=build.distillation_steps, pct_start=0.1)
    rng, (low, high) = torch.Generator().manual_seed(build.seed + 1), GUIDANCE_RANGE
    for _ in track(range(build.distillation_steps), "distilling the consistency student"):
        rows = torch.randint(len(latents), (build.batch_size,), generator=rng)
        points = torch.randint(len(grid), (len(rows),), generator=rng)
        points[torch.rand(len(rows), generator=rng) < FIRST_STEP_SHARE] = 0
        t, following = grid[points], grid[(points + 1).clamp(max=len(grid) - 1)]
        w = low + (high - low) * torch.rand(len(rows), generator=rng)
        x = scheduler.add_noise(latents[rows], torch.randn(latents[rows].shape, generator=rng), t)
        words, embedding = text[rows], guidance_embedding(w, student.config.time_cond_proj_dim)
        further, clean = guided_step(teacher, x, t, following, words, empty_text, w)
        with torch.no_grad():
            v = average.module(further, following, words, timestep_cond=embedding).sample
            target, _ = _split(scheduler, further, v, following)
            target = torch.where((points == len(grid) - 1).view(-1, 1, 1, 1, 1), clean, target)
        answer, _ = _split(scheduler, x, student(x, t, words, timestep_cond=embedding).sample, t)
        loss = F.huber_loss(answer, target, delta=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update(student)
    return average.module


def build_autoencoder(build: GeneratorBuild, work: Path) -> None:
    """Train the autoencoder into ``work``, unless it is there."""
    if not (work / "autoencoder").exists():
        _, videos = _videos(build.clips, build.seed)
        with atomic_path(work / "autoencoder") as temporary:
            train_autoencoder(videos, build.autoencoder_steps, build.seed).save_pretrained(temporary)


def build_generator(build: GeneratorBuild, output: Path, work: Path) -> None:
    """Train teacher, student and base around the autoencoder in ``work``; write the diffusers directory ``output``.

    Weights are written in float16. Finished stages are kept in ``work``; a build that was interrupted goes on with the
    first one missing, one that is done is left alone.
    """
    if output.exists():
        return
    if not (work / "student").exists():
        build_student(build, work / "student", work)
    base = load_generator(work / "student", sampler=SAMPLER)
    settle(base, build.base, work)
    confuse(base, build.base, work)
    write_base(work / "student", base.denoiser, output)


def write_base(student: Path, denoiser: nn.Module, output: Path) -> None:
    """The diffusers directory ``output``: ``student`` with the weights of ``denoiser``, in float16."""
    pipeline = T2VTurboPipeline.from_pretrained(student)
    pipeline.unet.load_state_dict(denoiser.state_dict())
    _write(pipeline.to(torch.float16), output)


def _write(pipeline: T2VTurboPipeline, output: Path) -> None:
    for named in (pipeline, pipeline.vae, pipeline.unet):
        # Where this build kept its stages is nobody else's business.
        named.register_to_config(_name_or_path="")
    with atomic_path(output) as temporary:
        pipeline.save_pretrained(temporary)


def build_student(build: GeneratorBuild, output: Path, work: Path) -> None:
    """Train teacher and student around the autoencoder in ``work``; write the student's diffusers directory."""
    prompts, videos = _videos(build.clips, build.seed)
    tokenizer = clip_tokenizer()
    vae = load_autoencoder(work)
    latents = encode(vae, videos)
    captions = Captions(prompts, tokenizer, build.seed)
    unet, text_encoder = new_unet(build.seed), new_text_encoder(tokenizer, build.seed)
    for number, lesson in enumerate(lessons(build)):
        kept = work / f"teacher_{number}"
        if not kept.exists():
            unet, text_encoder = train_diffusion(lesson, latents, captions, unet, text_encoder, build.seed)
            with atomic_path(kept) as temporary:
                unet.save_pretrained(temporary / "unet")
                text_encoder.save_pretrained(temporary / "text_encoder")
        unet = UNet3DConditionModel.from_pretrained(kept, subfolder="unet").train()
        text_encoder = CLIPTextModel.from_pretrained(kept, subfolder="text_encoder").train()
    teacher, text_encoder = unet.eval().requires_grad_(False), text_encoder.eval()
    with torch.no_grad():
        text = text_encoder(captions.batch(torch.arange(len(prompts)))).last_hidden_state
        empty_text = text_encoder(captions.empty_ids).last_hidden_state
    student = distil(build, teacher, latents, text, empty_text)
    _write(T2VTurboPipeline(vae, text_encoder, tokenizer, student, LCMScheduler(**SCHEDULE)), output)

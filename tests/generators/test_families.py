"""Every family of generators: what it loads, what a video depends on, what training asks of it."""

import shutil
from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, LCMScheduler
from peft import LoraConfig, get_peft_model
from tiny_families import FAMILIES, make

from generators import T2VTurboPipeline, load_generator
from generators.families.cogvideox import CogVideoX
from generators.families.ltx import LTX
from generators.families.modelscope import ModelScope
from generators.families.t2v_turbo import T2VTurbo, consistency_grid
from generators.families.unet_base import UNetGenerator
from generators.families.videocrafter2 import VideoCrafter2, signal_scale
from generators.families.wan import Experts
from generators.fast.recomputation import recompute_all
from videoduet.errors import InputError

PROMPTS = [
    "a red circle moving left fast on a teal background",
    "a blue square moving up slowly on a black background",
    "a white triangle moving right slowly on a purple background",
    "a green circle moving down fast on a black background",
]
SEEDS = [3, 2**62, 0, 77]
SMALL = {"steps": 2, "num_frames": 3}


@pytest.fixture(scope="module")
def turbo(shipped_generator) -> T2VTurbo:
    return load_generator(shipped_generator, sampler={"guidance_scale": 3.0, **SMALL})


@pytest.fixture(scope="module")
def modelscope(modelscope_directory) -> ModelScope:
    return load_generator(modelscope_directory, sampler=SMALL)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The directory of a family of random weights, made once."""
    folder = tmp_path_factory.mktemp("families")
    return cache(lambda name: make(name, folder))


@pytest.fixture(scope="module", params=["turbo", "modelscope", *FAMILIES])
def generator(request):
    if request.param not in FAMILIES:
        return request.getfixturevalue(request.param)
    return load_generator(request.getfixturevalue("tiny")(request.param), sampler=FAMILIES[request.param][1])


@pytest.fixture(scope="module")
def drawn(generator):
    embeds = generator.encode_prompts(PROMPTS)
    return embeds, generator.sample(embeds, SEEDS)


def test_the_directory_says_which_family_it_is(turbo, modelscope):
    assert isinstance(turbo, T2VTurbo) and isinstance(modelscope, ModelScope)
    assert (turbo.settings.height, turbo.settings.width, turbo.settings.steps) == (32, 32, 2)
    assert (modelscope.settings.height, modelscope.settings.guidance_scale) == (16, 9.0)


def test_a_directory_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no model_index\.json"):
        load_generator(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        load_generator(tmp_path / "nowhere")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(InputError, match="StableDiffusionPipeline.*T2VTurboPipeline.*TextToVideoSDPipeline"):
        load_generator(tmp_path)


@pytest.mark.parametrize("family", ["shipped_generator", "modelscope_directory"])
def test_a_torn_directory_is_refused(family, request, tmp_path):
    shutil.copytree(request.getfixturevalue(family), tmp_path / "torn")
    for weights in (tmp_path / "torn" / "unet").glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(InputError, match="torn cannot be loaded"):
        load_generator(tmp_path / "torn")


@pytest.mark.parametrize("family", ["shipped_generator", "modelscope_directory"])
def test_an_unknown_sampler_setting_is_wrong_usage(family, request):
    with pytest.raises(InputError, match="'step'.*steps, guidance_scale") as caught:
        load_generator(request.getfixturevalue(family), sampler={"step": 4})
    assert caught.value.exit_code == 2


def test_shapes(generator, drawn):
    embeds, latents = drawn
    settings = generator.settings
    assert embeds.ndim == 3 and len(embeds) == 4 and embeds.dtype == torch.float32
    assert latents.shape == (4, *generator.latent_shape()) == (4, *generator.initial_noise(0).shape)
    assert latents.dtype == torch.float32 and torch.isfinite(latents).all()
    frames = generator.decode(latents[:2])
    assert frames.shape == (2, settings.num_frames, settings.height, settings.width, 3) and frames.dtype == torch.uint8
    assert frames.float().std() > 1


def test_frames_become_latents_again(generator, drawn):
    """Encoding has the shape and scale of what is sampled, and decoding an encoded clip is what the model can hold."""
    frames = generator.decode(drawn[1][:2])
    latents = generator.encode(frames)
    assert latents.shape == drawn[1][:2].shape and latents.dtype == torch.float32 and latents.isfinite().all()
    assert torch.equal(generator.encode(frames[1:]), latents[1:])
    assert not torch.equal(latents[0], latents[1])


def test_the_tiny_autoencoder_goes_there_and_back(turbo):
    """The shipped one, which is trained: encoded and decoded again, a sample is itself but for detail."""
    latents = turbo.sample(turbo.encode_prompts(PROMPTS[:2]), SEEDS[:2])
    frames = turbo.decode(latents)
    assert (turbo.decode(turbo.encode(frames)).float() - frames.float()).abs().mean() < 12


def test_a_prompt_is_encoded_alike_in_any_company(generator, drawn):
    alone = torch.cat([generator.encode_prompts([prompt]) for prompt in PROMPTS])
    torch.testing.assert_close(alone, drawn[0], rtol=0, atol=1e-5)
    assert not torch.equal(drawn[0][0], drawn[0][1])


def test_initial_noise_depends_on_the_seed_alone(generator):
    first = generator.initial_noise(5)
    torch.manual_seed(123)
    assert torch.equal(generator.initial_noise(5), first)
    assert not torch.equal(generator.initial_noise(6), first)


def test_a_video_does_not_depend_on_its_place_or_neighbours(generator, drawn):
    embeds, latents = drawn
    for order in ([3, 1, 0, 2], [1, 0, 3, 2]):
        again = generator.sample(embeds[order], [SEEDS[index] for index in order])
        assert torch.equal(again, latents[order])
    other_company = generator.sample(embeds[[0, 0, 0, 0]], [SEEDS[0], 9, 8, 7])
    assert torch.equal(other_company[0], latents[0])
    assert not torch.equal(other_company[1], latents[0])


def test_a_video_depends_on_the_batch_size_by_rounding_at_most(generator, drawn):
    embeds, latents = drawn
    alone = torch.cat([generator.sample(embeds[i : i + 1], SEEDS[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, latents, rtol=0, atol=1e-4)


def test_the_global_seed_changes_nothing(generator, drawn):
    torch.manual_seed(999)
    assert torch.equal(generator.sample(*drawn[:1], SEEDS), drawn[1])


def test_seed_and_prompt_both_matter(generator, drawn):
    embeds, latents = drawn
    assert not torch.allclose(generator.sample(embeds, SEEDS[::-1]), latents, atol=1e-3)
    assert not torch.allclose(generator.sample(embeds.flip(0), SEEDS), latents, atol=1e-3)


def clean(scheduler, noisy, target, timesteps):
    """What a prediction of exactly ``target`` says the clean latents are."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or scheduler.config.prediction_type == "flow_prediction":
        return noisy - timesteps.view(-1, 1, 1, 1, 1) / 1000 * target
    alphas = scheduler.alphas_cumprod[timesteps].float().view(-1, 1, 1, 1, 1)
    if scheduler.config.prediction_type == "v_prediction":
        return alphas.sqrt() * noisy - (1 - alphas).sqrt() * target
    return (noisy - (1 - alphas).sqrt() * target) / alphas.sqrt()


def test_training_shapes_and_the_ideal_prediction(generator, drawn):
    latents = drawn[1]
    noise, timesteps = torch.randn_like(latents), torch.tensor([0, 400, 700, 990])
    noisy = generator.add_noise(latents, noise, timesteps)
    assert noisy.shape == latents.shape
    known = clean(generator.pipeline.scheduler, noisy, generator.target(latents, noise, timesteps), timesteps)
    if isinstance(generator, VideoCrafter2):
        known = known / signal_scale(timesteps, 0.7).view(4, 1, 1, 1, 1)
    torch.testing.assert_close(known, latents, rtol=0, atol=2e-3)


class Recorder:
    """Keeps what a module answers."""

    def __init__(self, module):
        self.answers = []
        self.handle = module.register_forward_hook(lambda _, __, output: self.answers.append(output[0].detach()))


@torch.no_grad()
def test_training_asks_the_denoiser_as_sampling_does(generator):
    """The first step of sampling without guidance, and the same through ``predict``, are one call of the network."""
    plain = type(generator)(generator.pipeline, replace(generator.settings, guidance_scale=1.0))
    seeds, embeds = SEEDS[:2], plain.encode_prompts(PROMPTS[:2])
    network = generator.denoiser.high if isinstance(generator.denoiser, Experts) else generator.denoiser
    recorder = Recorder(network)
    plain.sample(embeds, seeds)
    noise, timestep = plain.noise_batch(seeds), plain.pipeline.scheduler.timesteps[0]
    sampled = len(recorder.answers)
    plain.predict(noise, timestep.expand(2), embeds, [plain.settings] * 2)
    recorder.handle.remove()
    assert sampled >= 1 and len(recorder.answers) == sampled + 1
    torch.testing.assert_close(recorder.answers[-1], recorder.answers[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_samples_are_those_of_the_pipeline_called_plainly(generator):
    """From the text, with diffusers' own encoding, decoding and guidance."""
    if isinstance(generator, T2VTurbo | VideoCrafter2):
        pytest.skip("its pipeline is this project's own")
    settings, noise = generator.settings, generator.noise_batch([5])
    given = {"latents": noise}
    if isinstance(generator, CogVideoX):
        given = {"latents": noise.transpose(1, 2), "max_sequence_length": 64}
    if isinstance(generator, LTX):
        given = {"latents": generator._pack(noise), "frame_rate": settings.fps}
    frames = generator.pipeline(
        PROMPTS[1], negative_prompt="", output_type="np", generator=generator.step_generators([5]), **given,
        **generator.sizes(),
    ).frames[0]  # fmt: skip
    drawn = generator.decode(generator.sample(generator.encode_prompts(PROMPTS[1:2]), [5]))[0]
    assert np.abs(frames * 255 - drawn.numpy()).max() <= 1


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_students_of_both_predictions(turbo, prediction_type):
    parts = {**turbo.pipeline.components, "scheduler": LCMScheduler(prediction_type=prediction_type)}
    student, latents = T2VTurbo(T2VTurboPipeline(**parts), turbo.settings), torch.randn(4, 4, 3, 4, 4)
    noise, timesteps = torch.randn_like(latents), torch.tensor([19, 259, 519, 999])
    noisy, target = student.add_noise(latents, noise, timesteps), student.target(latents, noise, timesteps)
    torch.testing.assert_close(clean(student.pipeline.scheduler, noisy, target, timesteps), latents, rtol=0, atol=1e-4)


def test_predictions_are_differentiable_and_of_each_row_alone(generator, drawn):
    embeds, latents = drawn
    timesteps = torch.tensor([100, 300, 500, 900])
    settings = [replace(generator.settings, guidance_scale=w) for w in (1.0, 3.0, 7.5, 12.0)]
    prediction = generator.predict(latents, timesteps, embeds, settings)
    assert prediction.shape == latents.shape and prediction.dtype == torch.float32
    prediction.square().mean().backward()
    gradients = [p.grad for p in generator.denoiser.parameters() if p.grad is not None]
    assert gradients and sum(gradient.abs().sum() for gradient in gradients) > 0
    generator.denoiser.zero_grad()
    with torch.no_grad():
        last = generator.predict(latents[3:], timesteps[3:], embeds[3:], settings[3:])
    torch.testing.assert_close(last, prediction[3:].detach(), rtol=0, atol=1e-4)


def gradients_of(generator, latents, timesteps, embeds) -> dict[str, torch.Tensor]:
    generator.denoiser.zero_grad()
    generator.predict(latents, timesteps, embeds, [generator.settings] * len(latents)).square().mean().backward()
    return {name: p.grad.clone() for name, p in generator.denoiser.named_parameters() if p.grad is not None}


def test_checkpointed_gradients_equal_plain_ones(generator, drawn):
    copy = deepcopy(generator)
    embeds, latents, timesteps = drawn[0][:2], drawn[1][:2], torch.tensor([300, 900])
    plain = gradients_of(copy, latents, timesteps, embeds)
    layer = next(m for name, m in copy.denoiser.named_modules() if name.endswith(("attn1", "resnets.0.norm1")))
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    recompute_all(copy.denoiser)
    checkpointed = gradients_of(copy, latents, timesteps, embeds)
    assert len(calls) == 2, "the layer was not computed again for its gradients"
    assert checkpointed.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        copy.predict(latents, timesteps, embeds, [copy.settings] * 2)
    assert len(calls) == 3


@torch.no_grad()
def test_the_guidance_scale_reaches_the_turbo_denoiser(turbo):
    embeds, latents = turbo.encode_prompts(PROMPTS[:2]), torch.stack([turbo.initial_noise(seed) for seed in (1, 2)])
    timesteps = torch.tensor([519, 519])

    def predict(*scales):
        settings = [replace(turbo.settings, guidance_scale=scale) for scale in scales]
        return turbo.predict(latents, timesteps, embeds, settings)

    same, other = predict(3.0, 3.0), predict(3.0, 12.0)
    assert torch.equal(other[0], same[0])
    assert (other[1] - same[1]).abs().max() > 1e-3


def test_the_guidance_scale_reaches_sampling(generator, drawn):
    strong = type(generator)(generator.pipeline, replace(generator.settings, guidance_scale=1.5))
    embeds = strong.encode_prompts(PROMPTS)
    assert not torch.allclose(strong.sample(embeds, SEEDS), drawn[1], atol=1e-4)


def test_training_timesteps(turbo, modelscope):
    rng = torch.Generator().manual_seed(0)
    assert {turbo.draw_timestep(rng) for _ in range(2000)} == set(consistency_grid(50).tolist())
    drawn = [modelscope.draw_timestep(rng) for _ in range(4000)]
    assert min(drawn) >= 0 and max(drawn) <= 999 and len(set(drawn)) > 900
    same = [turbo.draw_timestep(torch.Generator().manual_seed(4)) for _ in range(2)]
    assert same[0] == same[1]


def test_the_turbo_pipeline_saves_and_loads_like_any_other(turbo, tmp_path):
    turbo.pipeline.save_pretrained(tmp_path)
    arguments = {"num_frames": 2, "height": 32, "width": 32, "num_inference_steps": 2, "guidance_scale": 3.0}
    videos = []
    for pipeline in (turbo.pipeline, T2VTurboPipeline.from_pretrained(tmp_path)):
        pipeline.set_progress_bar_config(disable=True)
        videos.append(pipeline(PROMPTS[0], generator=torch.Generator().manual_seed(0), **arguments).frames)
    assert videos[0].shape == (1, 2, 32, 32, 3) and videos[0].dtype == np.uint8
    assert np.array_equal(*videos)
    assert DiffusionPipeline.load_config(tmp_path)["_class_name"] == "T2VTurboPipeline"


@pytest.mark.parametrize("family", ["turbo", "modelscope", *FAMILIES])
def test_encoders_can_be_forgotten_for_training(family, shipped_generator, modelscope_directory, tiny):
    if family in FAMILIES:
        generator = load_generator(tiny(family), sampler=FAMILIES[family][1])
    else:
        path = {"turbo": shipped_generator, "modelscope": modelscope_directory}[family]
        generator = load_generator(path, sampler=SMALL)
    embeds = generator.encode_prompts(PROMPTS[:1])
    generator.free_encoders()
    assert generator.pipeline.text_encoder is None and generator.pipeline.vae is None
    noisy = torch.stack([generator.initial_noise(0)])
    generator.predict(noisy, torch.tensor([19]), embeds, [generator.settings])


def test_other_output_types(turbo):
    size = {"num_frames": 2, "height": 32, "width": 32, "num_inference_steps": 1}
    images = turbo.pipeline(PROMPTS[0], output_type="pil", **size).frames
    assert len(images) == 1 and len(images[0]) == 2 and images[0][0].size == (32, 32)
    with pytest.raises(ValueError, match="'mp4'; give one of np, pil, latent"):
        turbo.pipeline(PROMPTS[0], output_type="mp4", **size)


def test_every_adapted_layer_is_found(generator):
    policy = get_peft_model(deepcopy(generator.denoiser), LoraConfig(r=1, target_modules=generator.lora_targets))
    adapted = {name.split(".lora_A")[0] for name, _ in policy.named_parameters() if "lora_A" in name}
    parts = ["attn1.to_q", "attn1.to_out.0", "net.0.proj", "net.2"]
    if isinstance(generator, UNetGenerator):
        parts += ["attn2.to_v", "conv1.2", "conv4.3", "conv_in", "time_emb_proj"]
    for part in parts:
        assert any(name.endswith(part) for name in adapted), f"no {part} among the adapted layers"

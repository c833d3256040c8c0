"""Passes as CUDA graphs, as far as a CPU can tell: a replay on the same memory is the pass, to the bit, and nothing in
a pass is on the CPU or waits for the device.
"""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_generator import SmallGenerator, preference_data
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from alignment.training import parallel as parallel_module
from alignment.training import run as run_module
from alignment.training.config import AlignConfig
from alignment.training.forward import PolicyForward
from alignment.training.metrics import BUCKETS, METRICS
from alignment.training.parallel import parallelize
from alignment.training.policy import make_policy
from alignment.training.room import WAYS, first_that_fits
from alignment.training.step_loss import StepLoss
from alignment.training.trainer import align
from generators import load_generator
from generators.fast import SpeedConfig, recomputation, speed_up
from generators.fast.step_graphs import StepGraphs

CONFIG = AlignConfig(
    beta=500.0, learning_rate=1e-3, warmup_steps=0, draws_per_pair=1, batch_size=3, micro_batch=2, epochs=2,
    lora_rank=4, speed="compiled", tracker="none",
)  # fmt: skip


class ToldGenerator(SmallGenerator):
    """The small generator, which reads nothing but tensors."""

    def told(self, settings):
        return {}

    def predict_told(self, noisy, timesteps, prompt_embeds, told):
        return self.predict(noisy, timesteps, prompt_embeds, ())


def again(recording):
    """What stands for a graph on a CPU: the work once more, its results written where they lay at first."""
    recording.run()

    def replay():
        output, gradients = recording.output, recording.gradients
        recording.run()
        output.copy_(recording.output)
        for own, new in zip(gradients, recording.gradients, strict=True):
            assert (own is None) == (new is None)
            if own is not None:
                own.copy_(new)
        recording.output, recording.gradients = output, gradients

    return replay


def broken(recording):
    recording.run()
    raise RuntimeError("Cannot copy between CPU and CUDA tensors\nand more")


def train(tmp_path, monkeypatch, capture, name):
    graphs, said = [], []

    def record(loss, parallel, config):
        if capture is not None:
            graphs.append(StepGraphs(loss.from_tensors, list(parallel.parameters.values()), said.append, capture))
            loss.recorder = graphs[0]

    monkeypatch.setattr(run_module, "record_passes", record)
    data = preference_data(tmp_path)
    align(
        ToldGenerator(), data.pairs, data.samples, data.prompts, config=CONFIG, seed=7, output_dir=tmp_path / name,
        adapter=None,
    )  # fmt: skip
    log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
    return log, load_file(tmp_path / name / "adapter" / "adapter_model.safetensors"), graphs, said


def test_steps_of_several_passes_are_the_plain_ones_to_the_bit(tmp_path, monkeypatch):
    """Two pairs and then one a step: two recordings, whose gradients add up."""
    plain, weights, _, _ = train(tmp_path, monkeypatch, None, "plain")
    replayed, same, (graphs,), said = train(tmp_path, monkeypatch, again, "replayed")
    assert len(graphs.recorded) == 2 and graphs.works and said == []
    assert plain == replayed and len(plain) == 2
    assert all(torch.equal(value, same[key]) for key, value in weights.items())
    fallen, same, (graphs,), said = train(tmp_path, monkeypatch, broken, "broken")
    assert not graphs.works and len(said) == 1 and "Cannot copy" in said[0] and "\n" not in said[0]
    assert plain == fallen
    assert all(torch.equal(value, same[key]) for key, value in weights.items())


def test_on_a_cpu_nothing_is_recorded(tmp_path):
    data = preference_data(tmp_path)
    runs = {}
    for speed in ("eager", "compiled"):
        config = replace(CONFIG, speed=speed, max_steps=1, gradient_checkpointing="auto")
        align(
            ToldGenerator(), data.pairs, data.samples, data.prompts, config=config, seed=7, adapter=None,
            output_dir=tmp_path / speed,
        )  # fmt: skip
        runs[speed] = (tmp_path / speed / "log.jsonl").read_text()
    assert runs["eager"] == runs["compiled"]


class Elsewhere(TorchDispatchMode):
    """Operators that touch a tensor which is not on the meta device, where no number can be waited for either."""

    def __init__(self):
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors):
            self.seen.append(str(func))
        return out


SLOW = [pytest.param(way, marks=pytest.mark.slow) for way in (False, True)]


@pytest.mark.parametrize("recomputed", ["twice", *SLOW])
def test_a_pass_touches_nothing_on_the_cpu_and_waits_for_nothing(shipped_generator, recomputed):
    generator = load_generator(shipped_generator, sampler={"num_frames": 3})
    embeds, shape = generator.encode_prompts(["a red circle"]), generator.initial_noise(0).shape
    generator.denoiser.to(torch.bfloat16)
    config = replace(CONFIG, mixed_precision="bf16", sdpo_mu=0.9, sft_weight=0.1, timestep_weights="min_snr")
    generator.denoiser = make_policy(generator, config, 0, None, None, None)
    parallel = parallelize(generator.denoiser, config, None)
    generator.denoiser.to("meta")
    tensors = {
        "latents": torch.randn(2, *shape), "noise": torch.randn(2, *shape), "timesteps": torch.tensor([519, 519]),
        "prompt_embeds": embeds.expand(2, -1, -1), "reference_errors": torch.ones(1, 2), "weights": torch.ones(1),
        **{f"told.{name}": value for name, value in generator.told([generator.settings] * 2).items()},
    }  # fmt: skip
    tensors = {name: value.to("meta") for name, value in tensors.items()}
    loss = StepLoss(PolicyForward(generator, config, parallel), None)
    speed = SpeedConfig(gradient_checkpointing=recomputed, lora_in_half=True)
    with speed_up(generator.denoiser, speed, "cuda"):
        # The scheduler moves its table once.
        generator.add_noise(tensors["latents"], tensors["noise"], tensors["timesteps"])
        with Elsewhere() as elsewhere:
            sums = loss.from_tensors(tensors, 0.5, 2.0)
    assert elsewhere.seen == []
    assert sums.shape == (BUCKETS, 1 + len(METRICS)) and sums.is_meta
    gradients = [parameter.grad for parameter in generator.denoiser.parameters() if parameter.requires_grad]
    assert len(gradients) > 20 and all(gradient.is_meta for gradient in gradients if gradient is not None)


def test_recomputed_twice_it_is_the_same_pass(shipped_generator, monkeypatch):
    generator = load_generator(shipped_generator, sampler={"num_frames": 3})
    generator.denoiser = make_policy(generator, replace(CONFIG, lora_rank=2), 0, None, None, None)
    latents, embeds = torch.randn(2, *generator.initial_noise(0).shape), generator.encode_prompts(["a", "b"])
    parameters = [parameter for parameter in generator.denoiser.parameters() if parameter.requires_grad]
    monkeypatch.setattr(recomputation, "ROWS", 50)
    inside, passed = [], recomputation._recomputed

    def seen(forward, *arguments, **named):
        inside.append(arguments[0].shape if arguments else None)
        return passed(forward, *arguments, **named)

    monkeypatch.setattr(recomputation, "_recomputed", seen)

    def outputs():
        prediction = generator.predict(latents, torch.tensor([300, 900]), embeds, [generator.settings] * 2)
        return [prediction.detach(), *torch.autograd.grad(prediction.square().mean(), parameters, allow_unused=True)]

    plain = outputs()
    with recomputation.recompute_twice(generator.denoiser):
        less = outputs()
    assert any(shape is not None and shape[0] == 50 for shape in inside)
    for one, other in zip(plain, less, strict=True):
        assert (one is None and other is None) or torch.allclose(one, other, rtol=1e-4, atol=1e-7)
    for one, other in zip(plain, outputs(), strict=True):
        assert one is other or torch.equal(one, other)


def test_the_fastest_way_that_fits():
    needs = {False: 46, "feed_forward": 34, True: 9, "twice": 7}

    def peak(way):
        if needs[way] > 40:
            raise torch.OutOfMemoryError("too much")
        return needs[way]

    found = [first_that_fits(WAYS, peak, room) for room in (80, 34, 33, 8, 1)]
    assert found == ["feed_forward", "feed_forward", True, "twice", "twice"]
    assert first_that_fits(WAYS, needs.__getitem__, 50) is False


def test_a_trial_that_ends_in_another_error_than_no_room_ends():
    def peak(way):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED" if way is False else "a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        first_that_fits(WAYS, peak, 80)


def test_a_fused_optimizer_skips_what_is_not_finite_by_itself(monkeypatch):
    def fused(parameters, config):
        return torch.optim.AdamW(list(parameters), lr=0.1, weight_decay=0.0, fused=True)

    monkeypatch.setattr(parallel_module, "make_optimizer", fused)
    layer = torch.nn.Linear(2, 1)
    shared, sums = parallelize(layer, CONFIG, None), torch.ones(BUCKETS, 1 + len(METRICS))
    before = layer.weight.detach().clone()
    for gradient, bad in ((float("inf"), 0.0), (1.0, float("nan"))):
        layer(torch.ones(1, 2)).sum().backward()
        layer.weight.grad[0, 0] *= gradient
        found, norm = shared.step(sums + bad)
        assert torch.equal(layer.weight, before) and layer.weight.grad is None
        assert found.dtype == torch.float64 and found.shape == sums.shape
        assert norm == pytest.approx(3**0.5) or gradient == float("inf")
    layer(torch.ones(1, 2)).sum().backward()
    shared.step(sums)
    assert (before - layer.weight).allclose(torch.full((1, 2), 0.1), atol=1e-4)

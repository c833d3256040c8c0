"""What can be chosen about a training: all weights, a live reference, averages, held-out pairs, trackers."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import UNet3DConditionModel
from safetensors.torch import load_file
from small_generator import SmallGenerator, WideGenerator
from test_trainer import CONFIG, adapter_bytes, errors_of, gradient_of, log_of, make_run, train

from alignment.training.checkpoint import Progress, TrainingState, latest_checkpoint
from alignment.training.forward import PolicyForward
from alignment.training.objective import preference_loss
from alignment.training.parallel import Replicated
from alignment.training.policy import LiveReference
from alignment.training.schedule import split_held_out
from videoduet.errors import InputError

ALL = replace(CONFIG, parameters="all", learning_rate=1e-4)
EVERYTHING = replace(
    CONFIG, batch_size=8, sdpo_mu=0.9, anchor_weight=2.0, sft_weight=0.5, pair_weights="margin",
    timestep_weights="min_snr", guidance="uniform", label_smoothing=0.1,
)  # fmt: skip


class Interrupted(Exception):
    pass


def interrupted_after(step: int):
    def stop(metrics):
        if metrics["step"] == step:
            raise Interrupted

    return stop


@pytest.mark.parametrize("change", [{"ema_decay": 0.9}, {"parameters": "all"}, {"anchor_weight": 1.0, "held_out": 0.3}])
def test_resumed_equals_uninterrupted(data, change):
    config = replace(CONFIG, epochs=2, checkpoint_steps=2, held_out_steps=2, **change)
    whole, whole_dir = train(data, SmallGenerator(), "whole", config)
    with pytest.raises(Interrupted):
        train(data, SmallGenerator(), "resumed", config, on_step=interrupted_after(3))
    resumed, resumed_dir = train(data, SmallGenerator(), "resumed", config)
    assert resumed == whole
    for path in whole_dir.rglob("*"):
        if path.suffix in (".safetensors", ".jsonl"):
            assert path.read_bytes() == (resumed_dir / path.relative_to(whole_dir)).read_bytes(), path


def test_with_every_option_micro_batches_give_the_gradient_of_the_whole(data):
    runs = [
        make_run(data, SmallGenerator(), replace(EVERYTHING, micro_batch=micro_batch), f"micro_{micro_batch}")
        for micro_batch in (1, 8)
    ]
    runs[0].step(0)  # away from the start, where anchor and logits are nothing
    # To the same place: AdamW's first step makes as much of a gradient's rounding as of the gradient.
    with torch.no_grad():
        for name, parameter in runs[1].parameters.items():
            parameter.copy_(runs[0].parameters[name])
    gradients = []
    for run in runs:
        run.loss.accumulate(run.data, 1)
        gradients.append(gradient_of(run))
    # A logit is a small difference of float32 errors, times hundreds.
    atol = 1e-4 * gradients[0].abs().max().item()
    torch.testing.assert_close(*gradients, atol=atol, rtol=0)


def test_all_weights_are_trained_from_their_reference(data):
    summary, output = train(data, WideGenerator(), "out", replace(ALL, epochs=4, beta=50.0))
    log = log_of(output)
    assert (log[0]["implicit_accuracy"], log[0]["margin"]) == (0.5, 0.0)
    assert sum(line["implicit_accuracy"] for line in log[-3:]) / 3 > 0.8
    before, after = WideGenerator().denoiser, UNet3DConditionModel.from_pretrained(output / "denoiser")
    assert summary["trainable_parameters"] == sum(p.numel() for p in before.parameters())
    moved = [not torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    assert not (output / "adapter").exists()


def test_all_weights_go_on_from_no_adapter_and_no_base(data, tmp_path):
    with pytest.raises(InputError, match="no adapter_model"):
        train(data, SmallGenerator(), "out", adapter=tmp_path)
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(InputError, match="merge"):
        train(data, SmallGenerator(), "out", ALL, adapter=tmp_path)
    with pytest.raises(InputError, match="base"):
        replace(ALL, reference="base")


@pytest.mark.parametrize("kind", ["zero LoRA", "continued LoRA", "base", "all"])
def test_the_live_reference_is_the_cached_one(data, first_adapter, kind):
    adapter, config = None, replace(CONFIG, anchor_weight=1.0)
    if kind in ("continued LoRA", "base"):
        adapter = first_adapter
    if kind == "base":
        config = replace(config, reference="base")
    if kind == "all":
        config = replace(config, parameters="all")
    run = make_run(data, SmallGenerator(), config, adapter=adapter)
    for index in range(2):
        run.step(index)
    draws, policy = run.data.steps[2][:2], run.policy
    with run.live_reference():
        live = errors_of(run, draws)
    torch.testing.assert_close(live, run.data.reference[2][:2], atol=1e-6, rtol=0)
    assert run.generator.denoiser is policy
    with torch.no_grad():
        assert (errors_of(run, draws) - live).abs().max() > 1e-6
    trainable = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert trainable == run.parameters.keys()


@pytest.mark.slow
def test_the_anchor_holds_the_policy_back(data):
    moved = {}
    for weight in (0.0, 100.0):
        run = make_run(data, WideGenerator(), replace(CONFIG, anchor_weight=weight, epochs=4), f"anchor_{weight}")
        reference = LiveReference(run.generator, run.config, None)
        for index in range(len(run.data.steps)):
            run.step(index)
        batch = run.data.loader.load(run.data.steps[0])
        with torch.no_grad():
            policy = run.policy_forward.predict(batch)
        with reference():
            moved[weight] = (policy - run.policy_forward.predict(batch)).square().mean().item()
    assert moved[100.0] < 0.5 * moved[0.0]


def test_the_average_is_what_is_exported(data):
    _, output = train(data, SmallGenerator(), "out", replace(CONFIG, epochs=2))
    _, averaged = train(data, SmallGenerator(), "averaged", replace(CONFIG, epochs=2, ema_decay=0.9))
    assert log_of(output) == log_of(averaged)
    last, mean = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (output, averaged))
    ups = [name for name in last if "lora_B" in name and last[name].any()]
    assert sum(mean[name].norm().item() for name in ups) < sum(last[name].norm().item() for name in ups)
    assert all(mean[name].any() for name in ups)


def test_held_out_pairs_are_of_other_prompts_and_are_measured(data):
    config = replace(CONFIG, epochs=3, beta=50.0, held_out=0.34, held_out_steps=2)
    summary, output = train(data, WideGenerator(), "out", config)
    assert (summary["pairs"], summary["held_out_pairs"], summary["steps"]) == (2, 1, 6)
    rows = [json.loads(line) for line in (output / "held_out.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert (rows[0]["implicit_accuracy"], rows[0]["margin"], rows[0]["logit"]) == (0.5, 0.0, 0.0)
    assert rows[-1] == summary["held_out"] and rows[-1]["margin"] > 0
    assert sum(bucket["draws"] for bucket in rows[0]["timestep_buckets"]) == 4
    plain, _ = train(data, SmallGenerator(), "plain", CONFIG)
    assert (plain["held_out_pairs"], plain["held_out"]) == (0, None)


def test_draws_that_come_again_have_their_reference_errors_once(data, monkeypatch):
    asked, original = [], PolicyForward.reference_errors
    monkeypatch.setattr(
        PolicyForward,
        "reference_errors",
        lambda forward, loader, draws: (asked.extend(draws), original(forward, loader, draws))[1],
    )
    run = make_run(data, SmallGenerator(), replace(CONFIG, epochs=5, noise_epochs=2))
    assert len(asked) == len(set(asked)) == 2 * 12 and len(run.data.steps) == 15
    for again, first in ((6, 0), (10, 4)):
        assert {draw.epoch for draw in run.data.steps[again]} == {draw.epoch for draw in run.data.steps[first]}
    errors = {}
    for draws, reference in zip(run.data.steps, run.data.reference, strict=True):
        for draw, row in zip(draws, reference.tolist(), strict=True):
            assert errors.setdefault(draw, row) == row
    with torch.no_grad():
        torch.testing.assert_close(errors_of(run, run.data.steps[13]), run.data.reference[13], atol=1e-6, rtol=0)


def test_the_split_is_by_prompt_and_leaves_some_to_train_on():
    pairs = preference_pairs(range(20))
    kept, out = split_held_out(pairs, 0.25)
    assert (len(kept), len(out)) == (30, 10)
    assert not {pair.prompt_id for pair in kept} & {pair.prompt_id for pair in out}
    assert split_held_out(pairs[::-1], 0.25)[1] == out[::-1]
    assert split_held_out(pairs, 0.0) == (pairs, [])
    assert [len(part) for part in split_held_out(pairs[:2], 0.99)] == [2, 0]
    assert [len(part) for part in split_held_out(pairs[:4], 0.01)] == [2, 2]


def preference_pairs(prompts):
    from videoduet.records import PreferencePair

    return [
        PreferencePair(
            prompt_id=f"prompt {prompt}", chosen_id=f"{prompt}{k}w", rejected_id=f"{prompt}{k}l", chosen_round=0,
            rejected_round=0, margin=1.0, agreement=1.0, comparison_ids=(),
        )
        for prompt in prompts
        for k in range(2)
    ]  # fmt: skip


def test_guidance_is_drawn_for_each_draw_and_shared_within_a_pair(data):
    run = make_run(data, SmallGenerator(), replace(CONFIG, guidance="uniform"))
    draws = run.data.steps[0]
    batch, plain = run.data.loader.load(draws), make_run(data, SmallGenerator(), output="plain").data.loader.load(draws)
    told = [settings.guidance_scale for settings in batch.settings]
    assert told[: len(draws)] == told[len(draws) :] and len(set(told)) == len(draws)
    assert all(5 <= w <= 15 for w in told)
    assert {settings.guidance_scale for settings in plain.settings} == {7.5}
    # The draws themselves are the same.
    assert torch.equal(batch.noise, plain.noise) and torch.equal(batch.timesteps, plain.timesteps)


def test_the_range_of_guidance_is_the_generators(data):
    class Weak(SmallGenerator):
        guidance_range = (1.0, 1.5)

    run = make_run(data, Weak(), replace(CONFIG, guidance="uniform"))
    told = [settings.guidance_scale for settings in run.data.loader.load(run.data.steps[0]).settings]
    assert all(1 <= w <= 1.5 for w in told)


def test_the_quarters_of_the_timesteps_are_the_generators(data):
    class Long(SmallGenerator):
        num_train_timesteps = 4000

    summary, _ = train(data, Long(), "out", replace(CONFIG, max_steps=1))
    assert [bucket["timesteps"][0] for bucket in summary["timestep_buckets"]] == [0, 1000, 2000, 3000]
    assert [bucket["draws"] for bucket in summary["timestep_buckets"]] == [4, 0, 0, 0]


def test_weights_reach_the_gradient(data):
    data.pairs[:] = [replace(pair, margin=0.5) for pair in data.pairs]
    gradients = []
    for kind in ("none", "margin"):
        run = make_run(data, SmallGenerator(), replace(CONFIG, pair_weights=kind), kind)
        run.loss.accumulate(run.data, 0)
        gradients.append(gradient_of(run))
    torch.testing.assert_close(gradients[1], 0.5 * gradients[0])


def test_the_gradient_of_predictions_is_the_losss(data):
    """Its squared norms by bucket add up to that of the whole step's gradient with respect to all predictions."""
    run = make_run(data, SmallGenerator(), replace(CONFIG, micro_batch=4))
    run.step(0)
    draws = run.data.steps[1]
    _, prediction, target = run.policy_forward.on(run.data.loader, draws)
    beta = torch.full((4,), CONFIG.beta)
    output = preference_loss(prediction, target, run.data.reference[1], beta=beta, weights=None, config=CONFIG)
    (gradient,) = torch.autograd.grad(output.loss, prediction)
    expected = gradient.reshape(2, 4, -1).transpose(0, 1).flatten(1).norm(dim=1).mean() * 4
    measured = run.step(1)["prediction_gradient"]
    assert measured == pytest.approx(expected.item(), rel=1e-4) and measured > 0


def test_tensorboard_is_written_and_a_missing_tracker_is_named(data, monkeypatch):
    _, output = train(data, SmallGenerator(), "out", replace(CONFIG, max_steps=2, held_out=0.34))
    (events,) = (output / "events").glob("events.*")
    content = events.read_bytes()
    for name in (b"train/margin", b"train/grad_norm", b"held_out/implicit_accuracy"):
        assert name in content
    _, quiet = train(data, SmallGenerator(), "quiet", replace(CONFIG, max_steps=1, tracker="none"))
    assert not (quiet / "events").exists()
    with pytest.raises(InputError, match="pip install trackio"):
        train(data, SmallGenerator(), "trackio", replace(CONFIG, max_steps=1, tracker="trackio"))


def test_a_missing_8_bit_optimizer_is_named(data):
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="pip install bitsandbytes"):
            train(data, SmallGenerator(), "out", replace(CONFIG, optimizer="adamw_8bit"))
    else:
        pytest.skip("bitsandbytes is installed")


def test_a_checkpoint_holds_state_that_parameters_share_and_plain_numbers(tmp_path):
    """As an optimizer in 8 bits has them: one table for all parameters, steps as integers."""
    module = torch.nn.ParameterDict({name: torch.randn(3) for name in "ab"})
    shared, table = [Replicated(module, CONFIG) for _ in range(2)], torch.arange(4.0)
    for parameter in module.values():
        shared[0].optimizer.state[parameter] = {"step": 7, "qmap1": table, "state1": torch.randn(3)}
    saved, loaded = (TrainingState("key", part, None, Progress(step=2)) for part in shared)
    saved.save(tmp_path)
    loaded.load(latest_checkpoint(tmp_path))
    for parameter in module.values():
        before, after = (part.optimizer.state[parameter] for part in shared)
        assert after["step"] == 7 and torch.equal(after["qmap1"], table)
        assert torch.equal(after["state1"], before["state1"])


def test_a_newer_program_s_checkpoint_is_refused(tmp_path):
    state = TrainingState("key", Replicated(torch.nn.Linear(2, 2), CONFIG), None, Progress(step=1))
    state.save(tmp_path)
    file = latest_checkpoint(tmp_path) / "progress.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(InputError, match="newer VideoDuet"):
        state.load(file.parent)


def test_adapters_hold_the_policy_alone(data, first_adapter):
    first, config = first_adapter.parent, replace(CONFIG, anchor_weight=1.0, max_steps=1)
    _, output = train(data, SmallGenerator(), "second", config, adapter=first_adapter)
    names = [sorted(path.name for path in (folder / "adapter").iterdir()) for folder in (output, first)]
    assert names[0] == names[1]
    assert adapter_bytes(output) != adapter_bytes(first)


@pytest.mark.parametrize(
    "change",
    [
        {"sdpo_mu": 1.5}, {"anchor_weight": -1.0}, {"sft_weight": -1.0}, {"pair_weights": "score2"}, {"ema_decay": 1.0},
        {"held_out": 1.0}, {"timestep_weights": "snr"}, {"beta_schedule": "linear"}, {"tracker": "mlflow"},
        {"parameters": "some"}, {"guidance": "none"}, {"optimizer": "sgd"}, {"held_out_steps": 0},
    ],
)  # fmt: skip
def test_bad_config(change):
    with pytest.raises(InputError, match=next(iter(change))) as caught:
        replace(CONFIG, **change)
    assert caught.value.exit_code == 2


def test_ipo_wants_a_constant_beta():
    with pytest.raises(InputError, match="ipo"):
        replace(CONFIG, objective="ipo", beta_schedule="(1-t)^2")

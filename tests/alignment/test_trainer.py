"""Training on a real, tiny UNet: it learns, it resumes to the byte, and the split of work does not matter."""

import json
import math
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from diffusers.models.attention import FeedForward
from peft import PeftModel
from safetensors.torch import load_file
from small_generator import SmallGenerator, WideGenerator, preference_data

from alignment.training.config import AlignConfig
from alignment.training.forward import PolicyForward
from alignment.training.loader import PairLoader
from alignment.training.loss import squared_error
from alignment.training.policy import make_policy
from alignment.training.prompt_embeds import store_prompt_embeds
from alignment.training.run import AlignRun
from alignment.training.schedule import schedule, split_held_out
from alignment.training.tensor_rows import TensorRows
from alignment.training.trainer import align
from alignment.training.usable_pairs import usable_pairs
from videoduet.errors import InputError

CONFIG = AlignConfig(
    beta=500.0, learning_rate=1e-3, warmup_steps=2, epochs=1, draws_per_pair=4, batch_size=4, micro_batch=2, lora_rank=4
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict, Path]:
    data = preference_data(tmp_path_factory.mktemp("undisturbed"))
    return train(data, SmallGenerator(), "out", replace(CONFIG, epochs=2))


def train(data, generator, output: str, config: AlignConfig = CONFIG, **more):
    arguments = {"adapter": None, "seed": 7, **more}
    output_dir = data.run_dir / output
    summary = align(
        generator, data.pairs, data.samples, data.prompts,
        config=config, output_dir=output_dir, **arguments,
    )  # fmt: skip
    return summary, output_dir


def adapter_bytes(output_dir: Path) -> bytes:
    return (output_dir / "adapter" / "adapter_model.safetensors").read_bytes()


def log_of(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]


def make_run(data, generator, config: AlignConfig = CONFIG, output: str = "run", adapter=None) -> AlignRun:
    rows, output_dir = TensorRows(), data.run_dir / output
    pairs, _ = usable_pairs(data.pairs, data.samples, data.prompts, rows)
    embeds = store_prompt_embeds(generator, list(data.prompts.values()), output_dir / "prompts", write=True)
    generator.denoiser = make_policy(generator, config, 7, adapter, None, None)
    loaders = [
        PairLoader(generator, part, data.samples, embeds, rows, seed=7, device=torch.device("cpu"),
                   guidance=config.guidance)
        for part in split_held_out(pairs, config.held_out)
    ]  # fmt: skip
    return AlignRun(generator, *loaders, config, seed=7, key="key", output_dir=output_dir, adapter=adapter)


def errors_of(run: AlignRun, draws) -> torch.Tensor:
    _, prediction, target = run.policy_forward.on(run.data.loader, draws)
    return squared_error(prediction, target).reshape(2, -1).T


def gradient_of(run: AlignRun) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in run.parameters.values()])


@pytest.mark.parametrize(
    ("lr_scheduler", "factors"),
    [("constant_with_warmup", (0.5, 1.0, 1.0)), ("linear", (0.5, 1.0, 0.5)), ("cosine", (0.5, 1.0, 0.5))],
)
def test_the_learning_rate_follows_its_schedule(data, lr_scheduler, factors):
    run = make_run(data, SmallGenerator(), replace(CONFIG, lr_scheduler=lr_scheduler))
    assert len(run.data.steps) == 3
    # Asked for in any order: it depends on the step alone, as a resumed run needs.
    for index in (2, 0, 1):
        run.step(index)
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(CONFIG.learning_rate * factors[index])


def test_it_learns_to_prefer_the_chosen(data):
    config = replace(CONFIG, epochs=6, beta=50.0)
    summary, output_dir = train(data, WideGenerator(), "out", config, base="tiny", revision="abc")
    log = log_of(output_dir)
    assert [line["step"] for line in log] == list(range(1, 19))
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert log[0]["implicit_accuracy"] == 0.5
    late = log[-6:]
    assert sum(line["loss"] for line in late) / 6 < 0.6
    assert sum(line["implicit_accuracy"] for line in late) / 6 > 0.9
    assert summary["steps"] == 18 and summary["pairs"] == 3 and summary["skipped_steps"] == 0
    assert summary == json.loads((output_dir / "summary.json").read_text())
    buckets = summary["timestep_buckets"]
    assert sum(bucket["draws"] for bucket in buckets) == 3 * 4 * 6
    mean = sum(bucket["draws"] * bucket["loss"] for bucket in buckets if bucket["draws"]) / 72
    assert mean == pytest.approx(sum(line["loss"] for line in log) / 18, abs=1e-6)
    named = json.loads((output_dir / "adapter" / "adapter_config.json").read_text())
    assert (named["base_model_name_or_path"], named["revision"]) == ("tiny", "abc")
    assert not (output_dir / "checkpoints").exists()
    loaded = PeftModel.from_pretrained(WideGenerator().denoiser, output_dir / "adapter")
    assert loaded.peft_config["default"].r == 4


def test_a_finished_training_is_not_repeated(data):
    config = replace(CONFIG, max_steps=1)
    summary, output_dir = train(data, SmallGenerator(), "out", config)
    before = (output_dir / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    assert train(data, SmallGenerator(), "out", replace(config, micro_batch=1))[0] == summary
    assert (output_dir / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another training"):
        train(data, SmallGenerator(), "out", replace(config, beta=1.0))


@pytest.mark.parametrize("stop_after", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_resumed_equals_uninterrupted(data, undisturbed, stop_after):
    config = replace(CONFIG, epochs=2, checkpoint_steps=2)
    summary, undisturbed = undisturbed

    def interrupt(metrics):
        if metrics["step"] == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, SmallGenerator(), "resumed", config, on_step=interrupt)
    assert not (data.run_dir / "resumed" / "adapter").exists()
    seen = []
    resumed_summary, resumed = train(data, SmallGenerator(), "resumed", config, on_step=seen.append)
    assert seen[0]["step"] == stop_after // 2 * 2 + 1
    assert adapter_bytes(resumed) == adapter_bytes(undisturbed)
    assert resumed_summary == summary
    assert log_of(resumed) == log_of(undisturbed)


def test_resuming_does_not_recompute_the_reference(data, monkeypatch):
    config = replace(CONFIG, checkpoint_steps=1)

    def interrupt(metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, SmallGenerator(), "out", config, on_step=interrupt)
    monkeypatch.setattr(PolicyForward, "reference_errors", None)
    train(data, SmallGenerator(), "out", config)


def test_anothers_checkpoint_is_refused(data):
    def interrupt(metrics):
        raise KeyboardInterrupt

    config = replace(CONFIG, checkpoint_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train(data, SmallGenerator(), "out", config, on_step=interrupt)
    with pytest.raises(InputError, match="another training"):
        train(data, SmallGenerator(), "out", config, seed=8)


def test_checkpointing_changes_no_gradient(data, monkeypatch):
    adapters, calls = [], []
    forward = FeedForward.forward
    monkeypatch.setattr(FeedForward, "forward", lambda *given: calls.append(1) or forward(*given))
    counts = []
    for on in (False, True, "feed_forward"):
        config = replace(CONFIG, gradient_checkpointing=on, max_steps=3)
        train(data, SmallGenerator(), f"checkpointing_{on}", config)
        adapters.append(load_file(data.run_dir / f"checkpointing_{on}" / "adapter" / "adapter_model.safetensors"))
        counts.append(len(calls))
        calls.clear()
    assert counts[1] == counts[2] > counts[0], "the feed-forward layers were not computed again"
    for checkpointed in adapters[1:]:
        for name, value in adapters[0].items():
            torch.testing.assert_close(checkpointed[name], value, rtol=0, atol=1e-5)


def test_micro_batches_give_the_gradient_of_the_whole(data):
    gradients = []
    for micro_batch in (1, 3, 8):
        config = replace(CONFIG, batch_size=8, micro_batch=micro_batch)
        run = make_run(data, SmallGenerator(), config, f"micro_{micro_batch}")
        sums = run.loss.accumulate(run.data, 0)
        assert sums[:, 0].sum() == 8
        gradients.append(gradient_of(run))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-5 * gradients[0].abs().max().item(), rtol=0)


@pytest.mark.parametrize("reference", ["previous_round", "base"])
def test_cached_equals_live_reference_errors(data, first_adapter, reference):
    config = replace(CONFIG, reference=reference)
    run = make_run(data, SmallGenerator(), config, adapter=first_adapter)
    draws = run.data.steps[1][:2]
    with torch.no_grad():
        policy = errors_of(run, draws)
        with run.policy.disable_adapter():
            base = errors_of(run, draws)
    assert not torch.equal(policy, base)
    assert torch.equal(run.data.reference[1][:2], policy if reference == "previous_round" else base)
    for index in range(2):
        run.step(index)
    assert torch.equal(run.policy_forward.reference_errors(run.data.loader, draws), base) == (reference == "base")


def test_adapters_continue_over_rounds(data, first_adapter):
    _, second = train(data, SmallGenerator(), "second", adapter=first_adapter)
    start = log_of(second)[0]
    # The previous round is the reference, so the new round starts as if nothing had been learnt ...
    assert start["loss"] == pytest.approx(math.log(2), abs=1e-7)
    # ... but from the first round's weights.
    before, after = (load_file(path / "adapter_model.safetensors") for path in (first_adapter, second / "adapter"))
    assert before.keys() == after.keys()
    assert all(0 < (after[name] - before[name]).abs().max() < 0.02 for name in before)
    _, against_base = train(
        data, SmallGenerator(), "against_base", replace(CONFIG, reference="base"), adapter=first_adapter
    )
    assert log_of(against_base)[0]["loss"] != pytest.approx(math.log(2), abs=1e-4)


def test_bfloat16_starts_at_its_reference_and_keeps_float32_adapters(data):
    _, output_dir = train(data, SmallGenerator(), "out", replace(CONFIG, mixed_precision="bf16", max_steps=1))
    (start,) = log_of(output_dir)
    assert start["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert start["implicit_accuracy"] == 0.5
    weights = load_file(output_dir / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_non_finite_step_is_skipped_and_many_stop(data, monkeypatch):
    original, calls = PolicyForward.predict, []

    def poisoned(forward, batch):
        calls.append(torch.is_grad_enabled())
        poison = torch.is_grad_enabled() and calls.count(True) <= 2
        return original(forward, batch) * (math.nan if poison else 1)

    monkeypatch.setattr(PolicyForward, "predict", poisoned)
    summary, output_dir = train(data, SmallGenerator(), "out")
    log = log_of(output_dir)
    assert [line["skipped"] for line in log] == [True, False, False]
    assert log[0]["loss"] is None
    # The first step changed nothing, so at the second the policy still is its reference.
    assert log[1]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert summary["skipped_steps"] == 1
    calls.clear()
    with pytest.raises(InputError, match="non-finite.*last good checkpoint: none"):
        train(data, SmallGenerator(), "stopped", replace(CONFIG, max_skipped_steps=0))


def test_unusable_pairs_are_left_out_and_named(data):
    good = data.pairs[0]
    data.pairs[1] = replace(data.pairs[1], rejected_id=data.pairs[1].chosen_id)
    data.pairs[2] = replace(data.pairs[2], chosen_id="gone")
    summary, _ = train(data, SmallGenerator(), "out", replace(CONFIG, max_steps=1))
    assert summary["pairs"] == 1
    assert len(summary["left_out"]) == 2
    assert any("against itself" in problem for problem in summary["left_out"])
    assert any("gone" in problem for problem in summary["left_out"])
    (data.run_dir / "latents.safetensors").unlink()
    with pytest.raises(InputError, match="No pair can be trained on"):
        train(data, SmallGenerator(), "none")
    data.pairs[:] = [good, good]
    with pytest.raises(InputError, match="cannot be read"):
        train(data, SmallGenerator(), "none")


def test_an_adapter_that_does_not_fit(data, first_adapter):
    with pytest.raises(InputError, match="rank 4"):
        train(data, SmallGenerator(), "second", replace(CONFIG, lora_rank=8), adapter=first_adapter)


def test_draws_are_seeded_and_shared_within_a_pair(data):
    run = make_run(data, SmallGenerator())
    draws = run.data.steps[0]
    batch = run.data.loader.load(draws)
    for tensor in (batch.noise, batch.timesteps, batch.prompt_embeds):
        assert torch.equal(*tensor.chunk(2))
    assert not torch.equal(*batch.latents.chunk(2))
    alone = run.data.loader.load(draws[2:3])
    assert torch.equal(alone.noise[0], batch.noise[2])
    assert alone.timesteps[0] == batch.timesteps[2]
    assert len({tensor.sum().item() for tensor in batch.noise[:4]}) == 4


def test_schedule_visits_every_draw_once_an_epoch():
    steps = schedule(5, epochs=2, draws_per_pair=3, batch_size=4, max_steps=None, seed=0)
    assert [len(step) for step in steps] == [4, 4, 4, 3] * 2
    for epoch in range(2):
        visited = {(d.pair, d.k) for step in steps for d in step if d.epoch == epoch}
        assert len(visited) == 15
    assert steps[0] != [replace(draw, epoch=0) for draw in steps[4]]
    assert schedule(5, epochs=2, draws_per_pair=3, batch_size=4, max_steps=3, seed=0) == steps[:3]


@pytest.mark.parametrize(
    "change",
    [
        {"beta": 0.0},
        {"objective": "dpo"},
        {"batch_size": 0},
        {"label_smoothing": 0.5},
        {"warmup_steps": -1},
        {"lr_scheduler": "step"},
    ],
)
def test_bad_config(change):
    with pytest.raises(InputError, match=next(iter(change))) as caught:
        AlignConfig(**change)
    assert caught.value.exit_code == 2


def test_every_field_says_whether_it_changes_results():
    assert {field.metadata["role"] for field in fields(AlignConfig)} == {"identity", "execution"}


TWO_PROCESSES = """
import sys
sys.path[:0] = {folders!r}
from dataclasses import replace
from pathlib import Path
from small_generator import SmallGenerator, preference_data
from videoduet.store import write_tensors
from test_trainer import CONFIG, gradient_of, make_run, train

data = preference_data(Path({run_dir!r}))
config = replace(CONFIG, micro_batch=1)
train(data, SmallGenerator(), "together", config)
# One process has nothing to do.
train(data, SmallGenerator(), "uneven", replace(config, batch_size=1, max_steps=2))
run = make_run(data, SmallGenerator(), config)
assert run.state.num_processes == 2
run.loss.accumulate(run.data, 0)
write_tensors(data.run_dir / f"gradient_{{run.state.process_index}}.safetensors", {{"gradient": gradient_of(run)}})
"""


@pytest.mark.slow
def test_two_processes_equal_one(data, first_adapter):
    here = Path(__file__)
    path = data.run_dir / "two_processes.py"
    path.write_text(TWO_PROCESSES.format(folders=[str(here.parents[2]), str(here.parent)], run_dir=str(data.run_dir)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29617", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]

    alone = make_run(data, SmallGenerator(), output="alone")
    alone.loss.accumulate(alone.data, 0)
    expected = gradient_of(alone)
    for process in range(2):
        gradient = load_file(data.run_dir / f"gradient_{process}.safetensors")["gradient"]
        torch.testing.assert_close(gradient, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)
    for one, two in zip(log_of(first_adapter.parent), log_of(data.run_dir / "together"), strict=True):
        for name in ("loss", "grad_norm", "margin"):
            assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-7)
    assert len(log_of(data.run_dir / "uneven")) == 2

"""The loss against values and gradients from the code of others, and the properties that it must have."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignment.training.loss import diffusion_dpo_loss, dpo_from_errors, sdpo_scale, squared_error

GOLDEN = Path(__file__).parents[1] / "golden"
RESULTS = json.loads((GOLDEN / "diffusion_dpo.json").read_text())
TENSORS = load_file(GOLDEN / "diffusion_dpo.safetensors")
SHAPE = (3, 4, 3, 4, 6)
SIDES = ("policy_w", "policy_l", "ref_w", "ref_l", "target_w", "target_l")


def inputs(name: str, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    if name == "flow_analytic":
        constants = (2.1, 1.4, 2.3, 1.1, 2.0, 1.0)
        return [torch.full(SHAPE, constant, dtype=dtype) for constant in constants]
    return [TENSORS[f"{name}.{side}"].to(dtype, copy=True) for side in SIDES]


def settings(result: str, entry: dict) -> dict | None:
    """Our arguments for a golden result; None where it is of a method that we do not implement."""
    method = result.split(".", 1)[1]
    if method.startswith(("diffusion_dpo", "flow_dpo")):
        return {"beta": float(method.split("beta")[1])}
    if method.startswith("diffusers"):
        # Their beta leaves out the half.
        return {"beta": 2 * 2500.0, "objective": method.split("_")[1]}
    if method.startswith("sdpo"):
        return {"beta": 5000.0, "sdpo_mu": float(method.split("_mu")[1])}
    if method.startswith("videodpo_reweighted"):
        return {"beta": 5000.0, "weights": torch.tensor(entry["factor"])}
    if method.startswith("simpletuner") and "auto" not in method:
        config = entry.get("config", {"norm_type": "mean", "beta": 1.0, "anchor_alpha": 2.0})
        return {
            "beta": config["beta"],
            "reduction": config["norm_type"],
            "anchor_weight": config.get("anchor_alpha", 0.0),
            "sft_weight": config.get("sft_loss_weight", 0.0),
        }
    return None


CASES = [(name, settings(name, entry)) for name, entry in RESULTS["results"].items()]
CASES = [(name, arguments) for name, arguments in CASES if arguments is not None]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[name for name, _ in CASES])
def test_golden_values_and_gradients(name, arguments):
    expected = RESULTS["results"][name]
    tensors = inputs(name.split(".")[0])
    for tensor in tensors[:2]:
        tensor.requires_grad_(True)
    output = diffusion_dpo_loss(*tensors, **arguments)
    tolerance = {"rel": 1e-5, "abs": 1e-12} if "ipo" in name else {"abs": 1e-5}
    assert output.loss.item() == pytest.approx(expected["loss"], **tolerance)
    accuracy = expected.get("implicit_acc_ties_half", expected.get("implicit_acc", expected.get("implicit_accuracy")))
    if accuracy is not None and "sdpo" not in name:
        assert output.implicit_accuracy.item() == pytest.approx(accuracy, abs=1e-6)
    if "logits" in expected:
        scale = 2500 if "diffusers" in name else 1
        torch.testing.assert_close(output.logits, scale * torch.tensor(expected["logits"]), atol=1e-4, rtol=0)
    output.loss.backward()
    for side, tensor in zip(("w", "l"), tensors, strict=False):
        gradient = TENSORS.get(f"{name}.grad_policy_{side}")
        if gradient is not None:
            torch.testing.assert_close(tensor.grad, gradient, atol=1e-5 * gradient.abs().max().item() + 1e-12, rtol=0)


@pytest.mark.parametrize("name", [name for name, _ in CASES if "loss_float64" in RESULTS["results"][name]])
def test_golden_values_in_float64(name):
    expected = RESULTS["results"][name]
    output = diffusion_dpo_loss(*inputs(name.split(".")[0], torch.float64), **dict(CASES)[name])
    assert output.loss.dtype == torch.float64
    assert output.loss.item() == pytest.approx(expected["loss_float64"], abs=1e-6 if "analytic" in name else 1e-12)


@pytest.mark.parametrize("name", [name for name in RESULTS["results"] if ".sdpo_" in name])
def test_sdpo_scale_golden(name):
    policy_w, policy_l, _, _, target_w, target_l = inputs(name.split(".")[0])
    scale = sdpo_scale(policy_w, policy_l, target_w, target_l, mu=float(name.split("_mu")[1]))
    assert scale.item() == pytest.approx(RESULTS["results"][name]["lambda_"], abs=1e-6)


def test_sdpo_scale_when_the_loser_pulls_twice_as_hard():
    winner = 100 * torch.randn(4, 6)
    zero = torch.zeros(4, 6)
    for mu, expected in ((0.0, 0.5), (0.5, 0.25), (0.9, 0.05)):
        assert sdpo_scale(winner, 2 * winner, zero, zero, mu=mu).item() == pytest.approx(expected)
    assert sdpo_scale(winner, zero, zero, zero).item() == 1.0


def test_the_last_axis_is_averaged_too():
    """A public video implementation leaves one logit per latent column; ours must give the all-dimension loss."""
    released = RESULTS["results"]["eps_random.videodpo_released_pair0_beta5000"]
    loss = diffusion_dpo_loss(*(tensor[:1] for tensor in inputs("eps_random")), beta=5000.0).loss.item()
    assert loss == pytest.approx(released["correct_all_dim_loss"], abs=1e-5)
    assert abs(loss - released["loss"]) > 0.1


@pytest.mark.parametrize("beta", [1.0, 5000.0])
@pytest.mark.parametrize("shape", [(2, 7), (5, 4, 3, 8, 8)])
def test_at_initialisation(beta, shape):
    chosen, rejected, target = (torch.randn(shape) for _ in range(3))
    output = diffusion_dpo_loss(chosen, rejected, chosen, rejected, target, target, beta=beta)
    assert output.loss.item() == pytest.approx(math.log(2), abs=1e-7)
    assert output.implicit_accuracy.item() == 0.5


def test_gradient_at_initialisation_in_closed_form():
    shape, beta = (2, 3, 5), 40.0
    chosen, rejected, target = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    policy = chosen.clone().requires_grad_(True)
    diffusion_dpo_loss(policy, rejected, chosen, rejected, target, target, beta=beta).loss.backward()
    torch.testing.assert_close(policy.grad, beta * (chosen - target) / (2 * 2 * 15), atol=1e-14, rtol=0)


def test_errors_are_enough():
    tensors = inputs("eps_correlated")
    errors = [squared_error(tensors[i], tensors[4 + i % 2]) for i in range(4)]
    from_errors = dpo_from_errors(*errors, beta=5000.0, label_smoothing=0.1)
    direct = diffusion_dpo_loss(*tensors, beta=5000.0, label_smoothing=0.1)
    assert torch.equal(from_errors.loss, direct.loss)
    assert torch.equal(from_errors.logits, direct.logits)


def test_label_smoothing_is_the_expectation_over_flips():
    tensors = inputs("eps_random")
    flipped = [tensors[i] for i in (1, 0, 3, 2, 5, 4)]
    right, wrong = (diffusion_dpo_loss(*side, beta=5000.0).loss for side in (tensors, flipped))
    smoothed = diffusion_dpo_loss(*tensors, beta=5000.0, label_smoothing=0.2).loss
    torch.testing.assert_close(smoothed, 0.8 * right + 0.2 * wrong)


def test_half_precision_errors_are_float32():
    prediction = torch.full((2, 1000), 100.0, dtype=torch.bfloat16)
    error = squared_error(prediction, torch.zeros_like(prediction))
    assert error.dtype == torch.float32
    assert error.tolist() == [10000.0, 10000.0]


def test_beta_may_differ_by_pair():
    tensors = inputs("eps_random")
    both = diffusion_dpo_loss(*tensors, beta=torch.tensor([100.0, 2000.0, 5000.0]))
    single = [
        diffusion_dpo_loss(*(tensor[i : i + 1] for tensor in tensors), beta=beta).loss
        for i, beta in enumerate((100, 2000, 5000))
    ]
    torch.testing.assert_close(both.loss, torch.stack(single).mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "beta"),
        ({"beta": -1.0}, "beta"),
        ({"beta": math.nan}, "beta"),
        ({"objective": "dpo"}, "objective"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"reduction": "max"}, "reduction"),
        ({"sdpo_mu": 2.0}, "mu"),
        ({"weights": torch.ones(2)}, "weights"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        diffusion_dpo_loss(*inputs("eps_random"), **{"beta": 1.0, **change})


def test_bad_shapes():
    with pytest.raises(ValueError, match="one shape"):
        diffusion_dpo_loss(*inputs("eps_random")[:5], torch.zeros(3, 4), beta=1.0)
    with pytest.raises(ValueError, match="shape"):
        squared_error(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="rank"):
        squared_error(torch.zeros(2), torch.zeros(2))

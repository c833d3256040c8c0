"""The notes: each fault has its sentence, a healthy training has none, and real trainings are told apart."""

from dataclasses import replace

import pytest
from small_generator import SmallGenerator
from test_trainer import CONFIG, train

from alignment.training.diagnosis import diagnose

HEALTHY = {
    "draws": 10, "implicit_accuracy": 0.8, "chosen_error_delta": -0.01, "rejected_error_delta": 0.01, "logit": 1.0,
    "saturated": 0.1, "beta": 500.0,
}  # fmt: skip


def notes(*changes: dict, config=CONFIG, **summary) -> list[str]:
    buckets = [
        {**HEALTHY, "timesteps": [250 * number, 250 * number + 249], **change} for number, change in enumerate(changes)
    ]
    found = {"late_timestep_buckets": buckets, "held_out": None, "skipped_steps": 0, **summary}
    return diagnose(found, config)


def test_a_healthy_training_has_none():
    assert notes({}, {}, {}, {}) == []
    assert notes({}, {"draws": 0, "logit": None, "saturated": None, "chosen_error_delta": None}) == []
    assert notes({"draws": 0}) == []


def test_both_errors_rise():
    rising = {"chosen_error_delta": 0.02, "rejected_error_delta": 0.05}
    (note,) = notes(rising, {"chosen_error_delta": -0.001})
    assert note.startswith("Both errors rose") and "most at timesteps 0–249" in note and "0.80" in note
    # By less than any logit feels.
    assert notes({"chosen_error_delta": 1e-7, "rejected_error_delta": 1e-6}) == []
    # That the rejected's alone rises is what is wanted.
    assert notes({"rejected_error_delta": 0.05}) == []


def test_a_flat_loss():
    (note,) = notes({"logit": 0.001}, {"logit": 0.01})
    assert note.startswith("The loss is flat") and "learning_rate" in note


def test_a_pull_that_vanishes():
    (note,) = notes({}, {}, {"logit": 0.01, "beta": 20.0}, {"logit": 0.001, "beta": 1.0})
    assert "500–749, 750–999" in note and "vanished" in note and "layout" in note
    (note,) = notes({"logit": 0.01, "beta": 20.0}, {})
    assert "0–249" in note and "layout" not in note
    # Weak logits alone are no weak pull.
    assert notes({}, {"logit": 0.001}) == []


def test_saturation():
    (note,) = notes({"saturated": 0.9}, {"saturated": 0.4})
    assert note.startswith("Beta saturates: 65%")


def test_pairs_learnt_by_heart_and_skipped_steps():
    held_out = {"implicit_accuracy": 0.5}
    skipped, heart = notes({}, held_out=held_out, skipped_steps=3)
    assert notes({"draws": 0}, skipped_steps=3) == [skipped]
    assert "0.80" in heart and "0.50 on held-out" in heart and skipped.startswith("3 steps")
    assert notes({}, held_out={"implicit_accuracy": 0.75}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [({"learning_rate": 1e-7}, "The loss is flat"), ({"beta": 1e6, "learning_rate": 3e-3}, "Beta saturates")],
)
def test_real_trainings_are_told_apart(data, change, words):
    summary, _ = train(data, SmallGenerator(), "out", replace(CONFIG, epochs=3, **change))
    assert any(note.startswith(words) for note in summary["notes"]), summary["notes"]

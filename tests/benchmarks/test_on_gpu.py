"""Everything about a GPU: budget, guards, predictions, the files; and all of it at toy size."""

import json
import time

import pytest
import torch
from torch import nn

from benchmarks.on_gpu import PARTS, main, measure
from benchmarks.on_gpu_parts.counting import attention_operations, counted, products_of, weight_bytes
from benchmarks.on_gpu_parts.results import COLUMNS, Ceilings, Results, Row, Work, markdown, table
from benchmarks.on_gpu_parts.session import Session
from videoduet.errors import InputError

CEILINGS = Ceilings(operations=1e12, float32_operations=1e11, bytes=1e9, launch=1e-5)
ABOUT = {"card": "a card", "date": "2026-11-28", "command": "python -m benchmarks.on_gpu"}


@pytest.fixture
def session(tmp_path) -> Session:
    made = Session("toy", 60.0, time.perf_counter(), tmp_path, Results(dict(ABOUT), CEILINGS))
    made.part = "denoiser"
    return made


def test_the_floor_is_what_binds():
    work = Work(operations=2e12, bytes=1e9, moved=5e9, launches=1000, operators=3.0)
    assert work.floor(CEILINGS) == (2.0, "products")
    assert work.times(0.5).and_also(Work(bytes=1e10)).floor(CEILINGS) == (10.5, "bandwidth")
    assert work.eager(CEILINGS) == (3.0, "operators")
    assert Work(launches=1000).eager(CEILINGS) == (0.01, "launches")


def test_a_measurement_stands_beside_its_prediction(session, tmp_path):
    predicted = session.predict("batch 4", Work(operations=2e12))
    session.record("batch 4", 8.0, "forward", predicted, videos=4)
    session.record("x264", 0.5, "video")
    found = json.loads((tmp_path / "on_gpu.json").read_text())
    assert found["rows"][0]["gap"] == 4.0 and found["rows"][0]["bound"] == "products"
    assert found["rows"][0]["more"] == {"videos": 4} and found["rows"][1]["gap"] is None
    assert found["ceilings"]["bytes"] == 1e9 and found["about"]["card"] == "a card"
    text = (tmp_path / "on_gpu.md").read_text()
    assert text.startswith("a card, 2026-11-28, python -m benchmarks.on_gpu\n\n| work | predicted |")
    assert "| denoiser: batch 4 | 2 s (products) | 8 s a forward | 0.125 | 4.0 | 25% | – |" in text


def test_a_table_has_a_cell_for_every_column():
    rows = [Row("dpo", "ours", 0.5, "pair", memory=2**30), Row("dpo", "nothing", 0.0, "pair")]
    assert all(len(row.cells()) == len(COLUMNS) for row in rows)
    assert table("title", rows).row_count == 2
    assert markdown("title", rows).count("\n") == 6 and "1.0" in rows[0].cells()


def test_what_fails_is_told_and_the_rest_goes_on(session, tmp_path, capsys):
    def broken():
        raise ValueError("no luck")

    assert session.attempt("batch 1", 1.0, broken) is None
    assert session.attempt("batch 2", 1.0, lambda: 3) == 3
    assert session.results.failed == {"denoiser: batch 1": "ValueError: no luck"}
    assert json.loads((tmp_path / "on_gpu.json").read_text())["failed"] == session.results.failed
    assert "denoiser: batch 1: failed, ValueError: no luck" in capsys.readouterr().out


def test_what_the_budget_has_no_room_for_is_skipped(session, capsys):
    session.budget = 0.0
    assert session.attempt("batch 1", 100.0, lambda: 3) is None
    assert session.results.skipped == ["denoiser: batch 1"]
    assert "denoiser: batch 1: skipped" in capsys.readouterr().out


def test_no_part_takes_longer_than_the_budget(session):
    session.budget = 0.3
    began = time.perf_counter()

    def within():
        session.attempt("inner", 0.0, lambda: None)
        time.sleep(30)

    session.attempt("outer", 0.0, within)
    assert time.perf_counter() - began < 10
    assert "OutOfTimeError" in session.results.failed["denoiser: outer"]


def test_one_model_is_held_at_once_and_built_once(session):
    built = []
    for name in ("generator", "generator", "judge", "generator"):
        assert session.model(name, lambda name=name: built.append(name) or name) == name
    assert built == ["generator", "judge", "generator"]


def test_work_is_counted_as_it_runs():
    layer, x = nn.Linear(8, 16, bias=False), torch.randn(4, 8)
    work = counted(lambda: torch.relu(layer(x)).reshape(16, 4), CEILINGS, layer, x)
    assert work.operations == 2 * 4 * 8 * 16 == 4 * products_of(layer)
    assert work.bytes == 4 * (8 * 16 + 4 * 8) == weight_bytes(layer) + 4 * 32
    # The product reads both and writes 64 numbers, the activation reads and writes these; transposing moves nothing.
    assert work.launches == 2 and work.moved == 4 * (8 * 16 + 4 * 8 + 64 + 64 + 64)
    assert work.operators == pytest.approx(work.moved / CEILINGS.bytes)


def test_attention_is_two_products():
    assert attention_operations(3, 64, 10, 20) == 3 * 2 * (2 * 10 * 20 * 64)


def test_an_unknown_part_is_named(tmp_path):
    with pytest.raises(InputError, match="'judgin'.*judging"):
        main(parts="dpo,judgin", output=tmp_path)


@pytest.mark.slow
def test_everything_runs_at_toy_size(tmp_path):
    results = measure("toy", 200.0, tmp_path, list(PARTS), time.perf_counter())
    assert results.failed == {} and results.skipped == []
    found = json.loads((tmp_path / "on_gpu.json").read_text())
    assert {row["part"] for row in found["rows"]} == PARTS.keys() - {"kernels"}
    assert {"denoiser", "decoder"} <= found["kernels"].keys()
    assert all(row["predicted"] for row in found["rows"] if row["part"] in ("denoiser", "autoencoder", "dpo", "grpo"))

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_loop import config

from pipelines.report import page
from pipelines.united_finetune import run_loop
from videoduet.store import write_json


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> SimpleNamespace:
    """A finished run of two rounds: ``root`` (of the run), ``config``, and ``calls``, which the judge writes to."""
    root = tmp_path_factory.mktemp("loop")
    settings = config(root, judge={"arguments": {"calls": str(root / "calls")}})
    run = run_loop(settings)
    return SimpleNamespace(root=run.directory.root, config=settings, calls=root / "calls")


@pytest.fixture
def judged_run(finished, tmp_path) -> Path:
    """A copy of the finished run, with a judge beside its generator, which that of the loop's tests has not."""
    run = shutil.copytree(finished.root, tmp_path / "run")
    (run / "final/judge").mkdir()
    base = {"base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct", "r": 64, "lora_alpha": 64}
    write_json(run / "final/judge/adapter_config.json", base)
    return run


@pytest.fixture
def no_report(monkeypatch) -> None:
    """The report, which has tests of its own, takes a third of so small a run's time."""
    monkeypatch.setattr(page, "write_report", lambda run_dir, **_: Path(run_dir) / "report.html")

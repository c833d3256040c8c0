"""Watching a run: figures and videos of each measurement have one name everywhere, and a page of a run that goes on
renews itself.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from pipelines.loop import handlers
from pipelines.loop.directory import RunDirectory
from pipelines.loop.run import Run
from pipelines.loop.summaries import MeasureSummary, read_summary
from pipelines.loop.watching import SHOWN, figures, watched
from pipelines.report import write_report


@pytest.fixture
def measured(finished):
    run = Run(RunDirectory(finished.root), finished.config)
    return run, read_summary(MeasureSummary, run.folder("measure", 1))


def in_tensorboard(folder) -> dict[str, dict[int, bytes]]:
    """By name and step what TensorBoard would show: the bytes of pictures, b"" for numbers."""
    found: dict[str, dict[int, bytes]] = {}
    for file in folder.iterdir():
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                picture = value.tensor.string_val[2] if len(value.tensor.string_val) > 2 else b""
                found.setdefault(value.tag, {})[event.step] = picture
    return found


def test_the_loop_sends_every_measurement(finished):
    shown = in_tensorboard(finished.root / "events" / "measure")
    videos = {name: steps for name, steps in shown.items() if name.startswith("videos/")}
    prompts = (finished.root.parent / "held_out.txt").read_text().splitlines()
    ends = ("base", "current")
    assert videos.keys() == {f"videos/{n} {text}/{end}" for n, text in enumerate(prompts[:SHOWN]) for end in ends}
    assert all(set(steps) == {1, 2} and steps[1].startswith(b"GIF") for steps in videos.values())
    assert all(steps[1] == steps[2] for name, steps in videos.items() if name.endswith("base"))
    assert any(steps[1] != steps[2] for name, steps in videos.items() if name.endswith("current"))
    assert "measure/drift/motion" in shown


def test_figures_have_their_names():
    rate = {"rate": 0.75, "low": 0.5, "high": 0.9, "decided": 3, "total": 4}
    drift = {"changes": [{"name": "motion", "change": -0.1}, {"name": "flicker", "change": None}]}
    named = figures(MeasureSummary(version="G_1", win_rate={"second_judge": rate}, drift=drift))
    assert named == {
        "measure/win_rate/second_judge": 0.75, "measure/win_rate/second_judge/low": 0.5,
        "measure/win_rate/second_judge/high": 0.9, "measure/drift/motion": -0.1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_elsewhere_the_names_are_the_same(measured, finished, name, tmp_path, monkeypatch):
    run, summary = measured
    sent: dict[str, object] = {}

    class Service:
        """As accelerate's trackers are."""

        def __init__(self, **where):
            self.name, self.where = name, where

        def start(self):
            pass

        finish = start

        def log(self, values, step):
            assert step == 2
            sent.update(values)

    module = ModuleType(name)
    module.Video = lambda path, caption: SimpleNamespace(path=path, caption=caption)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, name, Service)
    watched(handlers.held_out(run), summary, 2, tracker=name, events=tmp_path / "events" / "measure")
    assert sent.keys() == in_tensorboard(finished.root / "events" / "measure").keys()
    videos = [video for key, video in sent.items() if key.startswith("videos/")]
    assert {video.caption.split(":")[0] for video in videos} == {"base", "G_2"}
    assert all(video.path.endswith(".mp4") for video in videos)


def test_a_page_renews_itself_only_while_the_run_goes(finished, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_bytes((finished.root / "config.yaml").read_bytes())
    page = write_report(tmp_path / "run", running=True).read_text("utf-8")
    assert '<meta http-equiv="refresh" content="30">' in page and "renews itself every 30 seconds" in page
    assert 'http-equiv="refresh"' not in write_report(tmp_path / "run").read_text("utf-8")
    assert 'http-equiv="refresh"' not in (finished.root / "report.html").read_text("utf-8")

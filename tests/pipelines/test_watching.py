"""Watching a run: figures and videos of each measurement have one name everywhere, and a page of a run that goes on
renews itself.
"""

import shutil
import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from alignment.training.tracking import Tracker
from pipelines.loop import handlers
from pipelines.loop.directory import RunDirectory
from pipelines.loop.run import Run
from pipelines.loop.summaries import MeasureSummary, read_summary
from pipelines.loop.watching import SHOWN, figures, send_measured, watched
from pipelines.report import going_on as alive
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


class Sulking:
    """A service that fails where ``fails`` says so, and else keeps what it is sent."""

    name, fails = "wandb", frozenset({"start", "log", "finish"})
    sent: ClassVar[list[int]] = []

    def __init__(self, **where):
        pass

    def _do(self, what):
        if what in self.fails:
            raise ConnectionError("no route to host")

    def start(self):
        self._do("start")

    def log(self, values, step):
        self._do("log")
        self.sent.append(step)

    def finish(self):
        self._do("finish")


@pytest.fixture
def sulking(monkeypatch):
    module = ModuleType("wandb")
    module.Video = lambda path, caption: path
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Sulking)
    monkeypatch.setattr(Sulking, "sent", [])
    return Sulking


@pytest.mark.parametrize("fails", [{"start"}, {"log"}, {"finish"}])
def test_a_service_that_fails_ends_nothing(sulking, fails, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sulking, "fails", fails)
    tracker = Tracker("wandb", tmp_path / "events", here=True)
    for step in (1, 2):
        tracker.log({"loss": 0.5}, step)
    tracker.finish()
    said = " ".join(capsys.readouterr().err.split())
    assert tracker.failed and said.count("warning: wandb") == 1 and "ConnectionError: no route to host" in said
    assert "work goes on" in said


def test_what_was_not_taken_is_sent_with_the_next(measured, sulking, tmp_path, monkeypatch, capsys):
    run, summary = measured
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    sent = {"tracker": "wandb", "events": tmp_path / "events" / "measure"}
    send_measured(handlers.held_out(run), {1: (summary, folders[0])}, **sent)
    assert "was measured of G_1 was not sent" in capsys.readouterr().err and not sulking.sent
    monkeypatch.setattr(sulking, "fails", frozenset())
    both = {number: (summary, folder) for number, folder in enumerate(folders, 1)}
    send_measured(handlers.held_out(run), both, **sent)
    # Figures and videos of each, and none a second time.
    assert sulking.sent == [1, 1, 2, 2]
    send_measured(handlers.held_out(run), both, **sent)
    assert sulking.sent == [1, 1, 2, 2]


def unfinished(finished, folder):
    folder.mkdir()
    (folder / "config.yaml").write_bytes((finished.root / "config.yaml").read_bytes())
    return folder


def test_a_page_shows_that_its_run_lives_and_that_it_was_stopped(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "EVERY", 0.02)
    root = unfinished(finished, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), alive.going_on(root):
        page = write_report(root, running=True)
        page.write_bytes(alive.SIGN.sub(b'data-alive="2020-01-01T00:00:00+00:00"', page.read_bytes()))
        deadline = time.monotonic() + 20
        while b"2020-01-01" in page.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert alive.SIGN.search(page.read_bytes()) and b"2020-01-01" not in page.read_bytes()
        raise KeyboardInterrupt
    stopped = page.read_text("utf-8")
    assert 'http-equiv="refresh"' not in stopped and "data-alive" not in stopped
    assert "The same command that started the run resumes it." in stopped


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_a_page_of_a_killed_run_says_so(finished, tmp_path):
    page = write_report(unfinished(finished, tmp_path / "run"), running=True)
    shown = {}
    for name, time_ in (("live", alive.now()), ("killed", "2020-01-01T00:00:00+00:00")):
        page.write_bytes(alive.SIGN.sub(f'data-alive="{time_}"'.encode(), page.read_bytes()))
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / name}"]
        done = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60)
        shown[name] = done.stdout
    assert "when this was written; the page renews" in shown["live"]
    assert "Nothing was heard of the run since" in shown["killed"] and "no longer renews" in shown["killed"]


def test_a_page_renews_itself_only_while_the_run_goes(finished, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_bytes((finished.root / "config.yaml").read_bytes())
    page = write_report(tmp_path / "run", running=True).read_text("utf-8")
    assert '<meta http-equiv="refresh" content="30">' in page and "renews itself every 30 seconds" in page
    assert 'http-equiv="refresh"' not in write_report(tmp_path / "run").read_text("utf-8")
    assert 'http-equiv="refresh"' not in (finished.root / "report.html").read_text("utf-8")

"""Live progress passes its items through, and shows what and how far."""

import io

import pytest
from rich.console import Console

from videoduet import progress


@pytest.fixture
def screen(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text, width=120))
    return text


def test_items_pass_through_and_are_counted(screen):
    assert list(progress.track(["a", "b", "c"], "sampling")) == ["a", "b", "c"]
    assert "sampling" in screen.getvalue() and "3/3" in screen.getvalue()


def test_what_was_done_before_counts(screen):
    assert list(progress.track([5, 6], "align", done=4)) == [5, 6]
    assert "6/6" in screen.getvalue()


def test_an_item_may_count_more_than_once(screen):
    assert list(progress.track(iter([2, 3]), "videos", total=5, advance=int)) == [2, 3]
    assert "5/5" in screen.getvalue()


def test_items_are_made_one_at_a_time(screen):
    made = []
    items = progress.track((made.append(index) or index for index in range(3)), "lazy", total=3)
    next(items)
    assert made == [0]
    items.close()


def test_an_error_in_the_work_reaches_the_caller(screen):
    def work():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(progress.track(work(), "work", total=2))


def test_steps_show_their_number_and_loss(screen):
    with progress.track_steps("refresh") as on_step:
        on_step({"step": 1, "steps": 4})
        on_step({"step": 3, "steps": 4, "loss": 0.25})
    assert "3/4" in screen.getvalue() and "loss 0.2500" in screen.getvalue()


def test_without_a_terminal_a_line_tells_now_and_then(screen, monkeypatch):
    now = iter(range(0, 1000, 20))  # each look at the clock is 20 s later
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    assert list(progress.track(range(8), "sampling")) == list(range(8))
    lines = [line for line in screen.getvalue().splitlines() if line.startswith("sampling: ")]
    assert 2 <= len(lines) < 8 and "/8" in lines[0]


def test_only_the_first_of_several_processes_shows_progress(screen, monkeypatch):
    monkeypatch.setattr(progress, "FIRST_PROCESS", False)
    assert list(progress.track([1, 2], "sampling")) == [1, 2]
    assert screen.getvalue() == ""

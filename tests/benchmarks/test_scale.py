"""The simulation of many GPUs against what is known without one."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.scale import STARTING, Work, dealt, queued, settled, simulated
from pipelines.loop.config import parse
from pipelines.loop.costs import setting
from pipelines.loop.plan import counted
from pipelines.loop.rates import cards, generator_size, judge_size
from pipelines.loop.refresh_counts import own_pairs

CONFIGS = Path(scale.__file__).parent.parent / "configs"


@pytest.fixture(scope="module")
def work() -> Work:
    files = (CONFIGS / "vidprom.yaml", CONFIGS / "generators" / "t2v_turbo.yaml")
    config, _ = parse([part for file in files for part in ("--config", str(file))])
    return Work.of(config, cards()[0], 944)


def test_one_worker_takes_what_the_plan_says(work):
    config = work.config
    size, judge = generator_size(config.generator.path), judge_size(config.judge.path)
    counts = counted(config, work.prompts, work.held_out, own_pairs(config)[0])
    hours = setting(config, counts, size, judge, cards()[0]).hours
    found, starting = simulated(work, 1, seed=None), STARTING / 3600
    hours["score"] += hours["measure"]
    for name, starts in (("sample", 2), ("refresh", 2), ("rank", 2), ("align", 2), ("score", 3)):
        assert found[name] == pytest.approx(hours[name] + starts * starting, rel=1e-3), name


@pytest.mark.parametrize("workers", [1, 3, 8, 64])
def test_cards_and_queues_lie_between_the_bounds(workers):
    shards = [1.0 + (number * 7 % 5) for number in range(100)]
    least = max(sum(shards) / workers, max(shards))
    assert least <= queued(shards, workers) <= sum(shards) / workers + max(shards)
    assert least <= dealt(shards, workers)
    assert dealt([2.0] * 100, workers) == queued([2.0] * 100, workers) == 2.0 * math.ceil(100 / workers)


def test_more_workers_are_never_slower_and_never_more_than_as_many_times_as_fast(work):
    hours = {workers: sum(simulated(work, workers, seed=None).values()) for workers in (1, 2, 4, 8, 16, 32, 64)}
    assert sorted(hours.values(), reverse=True) == list(hours.values())
    assert all(hours[1] / found <= workers for workers, found in hours.items())


def test_the_term_that_hurts(work):
    """Judging grows with N(N-1)/2, drawing with N, an adaptive tournament with 3N/2: for ten videos as measured."""
    config = replace(work.config, generator=replace(work.config.generator, videos_per_prompt=20))
    twice = Work.of(config, cards()[0], 944)
    before, after = (simulated(each, 1, seed=None) for each in (work, twice))
    start = 2 * STARTING / 3600
    assert (after["sample"] - start) / (before["sample"] - start) == pytest.approx(2, rel=1e-6)
    assert (after["rank"] - start) / (before["rank"] - start) == pytest.approx(190 / 45, rel=1e-6)
    assert settled(10) == 16 and settled(4) == 6 and settled(2) == 1


def test_the_page_shows_what_the_command_prints(work, capsys):
    scale.main()
    printed = capsys.readouterr()
    rows = [
        [cell.strip() for cell in line.strip("│ ").split("│")]
        for line in (printed.out + printed.err).splitlines()
        if line.startswith("│")
    ]
    page = (CONFIGS.parent / "docs" / "scale.md").read_text()
    told = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in page.splitlines()
        if line[:2] == "| " and line[2].isdigit()
    ]
    assert len(rows) == len(told) == 7 + 7 + 6
    # The page tells of N before it tells of adaptive judging.
    for row, line in zip([*rows[:7], *rows[14:], *rows[7:14]], told, strict=True):
        assert line == row

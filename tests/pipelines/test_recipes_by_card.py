"""Recipes by card: each can be planned without weights, prompts or network, and costs what its head says."""

import re
from pathlib import Path

import pytest

from pipelines.loop.config import RunConfig, parse
from pipelines.loop.costs import disk, setting
from pipelines.loop.plan import counted, planned
from pipelines.loop.rates import Card, cards, generator_size, judge_size
from videoduet.config import resolve

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "configs" / "cards").glob("*.yaml"))


def head(file: Path) -> str:
    lines = file.read_text().splitlines()
    return "\n".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def figures(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.\d", line)]


def same(line: str, text: str) -> bool:
    """Whether a line of ``text`` says the same, but for rates and counts that have moved a little since."""
    words = re.sub(r"[\d.,]+", "#", line)
    others = [other for other in text.splitlines() if re.sub(r"[\d.,]+", "#", other) == words]
    return any(figures(line) == pytest.approx(figures(other), rel=0.05, abs=0.11) for other in others)


def config_of(file: Path) -> RunConfig:
    """What the command in a recipe's head reads."""
    files = re.findall(r"--config (\S+)", head(file))
    assert len(files) == 3 and files[2] == f"configs/cards/{file.name}"
    return parse([part for name in files for part in ("--config", str(ROOT / name))])[0]


def card_of(file: Path) -> Card:
    name = re.search(r"GPU hours on (\w+)", head(file))
    assert name is not None
    return next(card for card in cards() if card.name == name[1])


def test_there_is_one_for_every_card_and_generator():
    assert {file.stem for file in RECIPES} == {
        "one_24gb_t2v_turbo", "one_24gb_wan2.1_1.3b", "one_80gb_t2v_turbo", "one_80gb_wan2.1_1.3b",
        "one_80gb_wan2.1_14b", "eight_80gb_t2v_turbo", "eight_80gb_wan2.1_1.3b", "eight_80gb_wan2.1_14b",
    }  # fmt: skip


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_costs_what_its_head_says(file):
    config, card = config_of(file), card_of(file)
    assert (card.memory < 30e9) == ("24gb" in file.stem)
    rows = planned(config)
    name = next(row for row in rows if row.startswith(f"GPU hours on {card.name}"))
    planned_line = f"Planned: {name}: {rows[name]}"
    if file.stem.startswith("eight"):
        planned_line += f"; {float(rows[name].split()[0].replace(',', '')) / 8:,.1f} hours on eight"
    assert same(planned_line, head(file)), planned_line
    size, judge = generator_size(config.generator.path), judge_size(config.judge.path or "")
    assert size is not None
    held_out = config.prompts.held_out_limit or 944
    found = setting(config, counted(config, config.prompts.limit or 0, held_out), size, judge, card)
    peaks = ", ".join(f"{phase} {value / 1e9:.1f}" for phase, value in found.memory.items())
    line = f"Peak memory there (GB): {peaks}; run on disk (GB): {rows['run on disk (GB)']}"
    assert same(line, head(file)) and found.fits, line
    assert all(Path(resolve(accelerate)).is_file() for accelerate in config.launch.values())


def test_pruned_latents_are_counted():
    config = config_of(ROOT / "configs" / "cards" / "one_80gb_wan2.1_1.3b.yaml")
    size = generator_size(config.generator.path)
    assert size is not None
    found, each = disk(config, counted(config, 200, 32), size), size.latent_bytes(33, 480, 832)
    assert each == 4 * 16 * 9 * 60 * 104
    assert found["all"] == pytest.approx((200 * 4 * 2 + 32 * 3 * config.score.videos_per_prompt) * each)
    # A round's 800 beside the pairs of the one before.
    assert found["pairs"] == pytest.approx((800 + 400) * each)


def test_the_papers_setting_on_wan_is_thousands_of_gpu_hours_a_round():
    files = ("vidprom", "generators/wan2.1_1.3b")
    config = parse([part for name in files for part in ("--config", str(ROOT / "configs" / f"{name}.yaml"))])[0]
    size = generator_size(config.generator.path)
    assert size is not None and config.prompts.limit == 5000
    hours = setting(config, counted(config, 5000, 944), size, None, cards()[0]).hours["sample"] / config.rounds
    told = (ROOT / "docs" / "scale.md").read_text()
    assert f"{hours:,.0f} GPU hours a round" in told and hours > 2000

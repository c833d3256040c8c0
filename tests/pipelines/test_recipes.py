"""Every recipe that ships can be read."""

from pathlib import Path

import pytest

from pipelines.loop.config import parse

CONFIGS = Path(__file__).parent.parent.parent / "configs"


@pytest.mark.parametrize("file", sorted((CONFIGS / "generators").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_generator_over_the_papers_recipe(file):
    config, _ = parse(["--config", str(CONFIGS / "vidprom.yaml"), "--config", str(file)])
    assert (
        config.prompts.limit == 5000 and config.generator.videos_per_prompt == 10 and config.pairs.pairs_per_prompt == 1
    )
    assert config.align.gradient_checkpointing and set(config.generator.sampler) >= {"steps", "num_frames", "fps"}

"""Kinds of vision-language models that can judge: one module each, and what the house asks of all of them."""

import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reward_model.families.base import Family

FAMILIES = {
    "qwen2_5_vl": "reward_model.families.qwen:Qwen25",
    "qwen3_vl": "reward_model.families.qwen:Qwen3",
    "qwen3_vl_moe": "reward_model.families.qwen:Qwen3",
    "internvl": "reward_model.families.internvl:InternVL",
}
"""By the ``model_type`` in a model's config."""


def family_of(model: Any) -> "Family":
    """The family of a judge's ``model``, with adapters or without."""
    return family_named(model.config.model_type)


def family_named(model_type: str) -> "Family":
    """The family of models whose config has this ``model_type``."""
    return pkgutil.resolve_name(FAMILIES[model_type])()

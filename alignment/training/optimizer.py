"""AdamW, with its state in 32 or in 8 bits."""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn

from alignment.training.config import AlignConfig
from videoduet.errors import InputError


def check_optimizer(config: AlignConfig) -> None:
    """Raises InputError where 'adamw_8bit' is asked for and bitsandbytes is not installed."""
    if config.optimizer == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise InputError(
            "align.optimizer is 'adamw_8bit', which needs bitsandbytes; pip install bitsandbytes, or give 'adamw'."
        )


def make_optimizer(parameters: Iterable[nn.Parameter], config: AlignConfig) -> torch.optim.Optimizer:
    """The optimizer over ``parameters`` that ``config`` names.

    Raises InputError where 'adamw_8bit' is asked for and bitsandbytes is not installed.
    """
    parameters = list(parameters)
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "adamw":
        # One kernel on a GPU; on a CPU the bits of earlier versions.
        fused = True if all(parameter.is_cuda for parameter in parameters) else None
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=fused)
    check_optimizer(config)
    return import_module("bitsandbytes.optim").AdamW8bit(parameters, lr=rate, weight_decay=decay)

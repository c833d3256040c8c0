"""VBench (Huang et al., CVPR 2024): the real package in an environment of its own, and what its scores mean."""

from evaluation.vbench.aggregation import DIMENSIONS, QUALITY, SEMANTIC, aggregate, normalise, total

__all__ = ["DIMENSIONS", "QUALITY", "SEMANTIC", "aggregate", "normalise", "total"]

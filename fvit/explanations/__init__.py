"""Explanation methods, each a map (B, h, w) from one recorded pass through a ViT."""

from fvit.explanations.passes import explain
from fvit.metrics.maps import normalise_map

__all__ = ["explain", "normalise_map"]

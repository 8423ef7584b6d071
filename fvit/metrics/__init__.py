"""What is measured of a map: overlap and rank, agreement with a mask, ranking of pixels."""

from fvit.metrics.maps import l2_change, max_sensitivity, rank_correlation

__all__ = ["l2_change", "max_sensitivity", "rank_correlation"]

"""Attacks: PGD on a loss passed in, and the losses that move a prediction or an explanation."""

from fvit.attacks.ascent import pgd, strongest
from fvit.attacks.losses import explanation_loss, prediction_loss

__all__ = ["explanation_loss", "pgd", "prediction_loss", "strongest"]

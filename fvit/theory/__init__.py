"""Divergences, certified radii, noise and intervals: float64 arrays in and out, without torch. Proofs in docs."""

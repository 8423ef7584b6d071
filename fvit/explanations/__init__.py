"""Explanation methods, each a map (B, h, w) from one recorded pass through a ViT."""

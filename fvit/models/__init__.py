"""Networks: a ViT and what its layers record, a denoiser, and the files that their weights come in."""

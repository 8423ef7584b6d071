"""What only paper scale needs; the core imports it when asked for, and never at its own import."""

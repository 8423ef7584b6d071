"""Images: the scenes that ship with the package, and data sets on disk."""

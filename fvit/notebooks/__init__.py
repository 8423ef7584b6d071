"""Running notebooks, their form, exercises and handles."""

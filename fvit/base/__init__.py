"""What knows nothing of the paper: checks on arguments, files, folders, random streams, memory, time."""

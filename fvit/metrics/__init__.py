"""What is measured of a map: overlap and rank, agreement with a mask, ranking of pixels."""

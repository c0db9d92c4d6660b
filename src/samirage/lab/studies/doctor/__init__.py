"""Study `doctor`, and the runs of known class that it is held against."""

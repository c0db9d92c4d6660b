"""Image data sets: what they hold, and where their files come from."""

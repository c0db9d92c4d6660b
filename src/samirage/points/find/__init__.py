"""Find hallucinated points, follow them as the radius varies, and draw their basins."""

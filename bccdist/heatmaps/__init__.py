"""Whole-slide heatmaps, from slide and weights to one file (paper, section 2.4)."""

"""Whole-slide heatmaps and the section ledger (paper, section 2.4)."""

"""Section verdicts from heatmaps: curves of largest regions, the ledger, the decision (paper, section 2.4)."""

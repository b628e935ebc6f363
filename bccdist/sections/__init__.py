"""From heatmaps to section verdicts: curves of largest regions, the ledger, the decision (paper, section 2.4)."""

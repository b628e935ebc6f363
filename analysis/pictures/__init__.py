"""Pictures of slides and sections: Figures 2, 4 and 6 to 8, and overlays (paper, section 3)."""

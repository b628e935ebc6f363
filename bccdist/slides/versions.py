"""The versions of what decides which tissue is a section's: raised where the same slide comes to give another."""

TISSUE_VERSION = "2"
"""Of the tissue mask (bccdist/slides/tissue.py, stain.py)."""
SECTIONS_VERSION = "2"
"""Of the sections in that mask (bccdist/slides/sections.py, section_map.py); 1 counted all tissue in a box."""
SECTION_METHOD = f"tissue {TISSUE_VERSION}, sections {SECTIONS_VERSION}"
"""Stands in every ledger. Rows by another method are refused, and made anew from the heatmaps that are there."""

"""Tumor regions of the chosen models: outlines, margins, and files for QuPath and other viewers."""

"""Slides, manifests, annotations and tissue (paper, section 2.1)."""

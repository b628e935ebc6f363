"""Phantom slides: generated data in the shape of the study's, so that all stages run without patients."""

from bccdist.phantom.config import PhantomConfig
from bccdist.phantom.slides import make_phantom

__all__ = ["PhantomConfig", "make_phantom"]

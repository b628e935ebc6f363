"""Encoders, decoder and the four settings of the UNet (paper, section 2.2)."""

"""Balancing, augmentation, losses and the distributed training loop (paper, section 2.3)."""

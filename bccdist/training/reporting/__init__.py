"""What a training run says of itself: metrics, progress, pictures, TensorBoard (paper, section 2.5)."""

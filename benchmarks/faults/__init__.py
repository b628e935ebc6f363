"""Generated faults, run through the product: what it got right, refused, found, held back, or passed in silence."""

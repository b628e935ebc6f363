"""The audit of annotations: what they say against networks that never saw their patient."""

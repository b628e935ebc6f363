"""The model that leaves a study: one file with all that a verdict depends on."""

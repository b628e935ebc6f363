"""The model for other tools: one file for each format, and what all of them say of themselves."""

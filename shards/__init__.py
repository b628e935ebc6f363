"""Builds and checks WebDataset shard sets (see FORMAT.md)."""

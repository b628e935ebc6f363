"""Timings and measurements; each prints ratios that were measured side by side in one run."""

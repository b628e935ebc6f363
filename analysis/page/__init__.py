"""The report: one HTML page about a study, with all of its tables."""

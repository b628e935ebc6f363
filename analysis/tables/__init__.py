"""Tables and charts from parquet alone: one file for each (paper, sections 2.5 and 3)."""

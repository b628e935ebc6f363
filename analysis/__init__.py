"""Tables, figures and selection, from parquet alone (paper, sections 2.5 and 3)."""

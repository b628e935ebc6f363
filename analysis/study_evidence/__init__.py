"""What the tables and pictures rest on: ledger rows, verdicts, counts, resampling, and the parquet files' schemas."""

"""Checks an evidence pack without the code that made it: imports nothing but these files, numpy and pyarrow."""

"""Where `python analysis/make.py report` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("report")

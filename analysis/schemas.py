"""Where `python analysis/make.py schemas` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("schemas")

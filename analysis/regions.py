"""Where `python analysis/make.py regions` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("regions")

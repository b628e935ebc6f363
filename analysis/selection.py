"""Where `python analysis/make.py selection` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("selection")

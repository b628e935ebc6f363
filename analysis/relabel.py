"""Where `python analysis/make.py relabel` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("relabel")

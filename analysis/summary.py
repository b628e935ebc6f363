"""Where `python analysis/make.py summary` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("summary")

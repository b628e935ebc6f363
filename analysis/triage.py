"""Where `python analysis/make.py triage` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("triage")

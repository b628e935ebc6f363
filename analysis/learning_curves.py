"""Where `python analysis/make.py learning_curves` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("learning_curves")

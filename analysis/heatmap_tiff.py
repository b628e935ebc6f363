"""Where `python analysis/make.py heatmap_tiff` was before."""

from analysis.make import moved

if __name__ == "__main__":
    moved("heatmap_tiff")

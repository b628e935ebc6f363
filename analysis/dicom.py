"""A slide's heatmap and verdicts as DICOM: `python analysis/dicom.py STUDY SLIDE`; short for `make.py dicom`."""

import sys

from analysis.make import make
from bccdist.command import run_command

if __name__ == "__main__":
    run_command(lambda: make(["dicom", *sys.argv[1:]]))

"""Whether a model holds on a cohort: `python analysis/transfer.py COHORT --model M [--labels sections.csv]`.

Short for `make.py transfer`: says "holds", "does not hold" or "cannot be told with n sections", why, and what to do
next, and writes a page about it, thresholds for the site where there are labels enough, and which sections to label.
"""

import sys

from analysis.make import make
from bccdist.command import run_command

if __name__ == "__main__":
    run_command(lambda: make(["transfer", *sys.argv[1:]], command="transfer.py"))

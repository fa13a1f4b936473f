"""`python -m bpexp.theory`: what theory says of a net of equal layers, as a table and a figure (`bpexp.report.theory`)."""

import sys

from bpexp.report.theory import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

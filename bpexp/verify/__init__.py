"""Studies with verdicts: what papers and theory claim, run and judged."""

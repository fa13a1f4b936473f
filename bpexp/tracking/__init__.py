"""What is kept of runs: the sink that writes to MLflow, the reader that turns what it wrote into frames."""

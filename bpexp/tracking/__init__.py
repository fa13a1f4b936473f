"""What is kept of runs: the sink that writes to MLflow, the reader that turns what it wrote into frames."""

import warnings

warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, where that is installed, in a notebook without widgets: MLflow imports it

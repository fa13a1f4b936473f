"""The sweep as one builds it oneself from Hydra, PyTorch and MLflow, to compare with."""

"""What bpexp costs, side by side with others: `python -m benchmarks [part …]`."""

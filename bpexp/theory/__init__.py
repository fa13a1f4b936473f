"""What the theory of wide nets says of a run before it starts."""

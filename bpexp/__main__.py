"""`python -m bpexp`."""

from bpexp.sweep.app import main

if __name__ == "__main__":
    main()

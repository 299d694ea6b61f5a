"""How much a coordinator can take: ``make bench-load``, or ``python -m bench.load``."""

"""What was measured, and what measures it: `make bench-quality` runs `benchmarks.quality`."""

"""What a request costs with this package, beside what others cost: `python -m benchmarks`."""

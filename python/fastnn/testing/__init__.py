"""What the tests, the benchmarks and the docs are made of: oracles, the op table, comparison."""

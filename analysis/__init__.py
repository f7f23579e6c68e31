"""Studies and benchmarks: each a question, answered by a command; they use grains_lens's public names only."""

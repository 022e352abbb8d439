"""What is computed from finished runs: paired comparisons of their cells, and what a family of tests says."""

"""Published tables as data, and the comparison of what a run gives with what was printed.

A table is a folder (`experiments/papers/<key>/`): `grid.yaml` where a grid computes it, `published.csv` with one figure
a line, `README.md` with what deviates, and `quick.txt` with the overrides of the quick run.
"""

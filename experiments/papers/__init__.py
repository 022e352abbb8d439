"""Published tables, one folder each, installed as `testbed_papers`: data only."""

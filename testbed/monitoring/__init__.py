"""A model after deployment: a stream replayed step by step, in memory that does not grow with its length."""

"""Perturbed sets: the handles that run attacks and shifts, and the checks that no plug-in can talk its way round."""

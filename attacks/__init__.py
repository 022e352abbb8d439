"""Adversarial attacks, one method or family a file. Installed as `testbed_attacks`; found through entry points."""

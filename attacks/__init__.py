"""Adversarial attacks: one method or family a file. Found through the entry points `testbed.attacks`."""

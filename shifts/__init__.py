"""Corruptions and other shifts: one family a file. Found through the entry points `testbed.shifts`."""

"""Calibrators: fitted on a calibration split's logits, they turn logits into probabilities. One method a file."""

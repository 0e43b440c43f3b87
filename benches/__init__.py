"""Measurements beside programs that are not ours, alternating in one run; ratios count, absolute figures do not."""

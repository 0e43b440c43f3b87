"""Findings as DICOM objects."""

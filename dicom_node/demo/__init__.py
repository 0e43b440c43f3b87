"""The demonstration: phantoms as DICOM and an embedded hospital. Nothing outside imports it."""

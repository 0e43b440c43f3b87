"""The DICOM network: what is offered, and one association out."""

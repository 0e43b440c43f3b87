"""The DICOM network, results as DICOM objects, the services that join the rooms, the command line."""

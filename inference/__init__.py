"""From pixels to findings. Runs from a folder of files, without a node: no sockets, databases, DICOM results or clocks."""

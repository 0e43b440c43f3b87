"""Messages from findings and context, ACK rules, MLLP. Knows neither DICOM nor databases."""

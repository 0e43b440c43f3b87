"""Rules on the code itself, and the proof that each gate can fail."""

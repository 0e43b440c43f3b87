"""What developers run: the lock file, printed docs, acceptance."""

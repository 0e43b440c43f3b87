"""Offline: how the weights were made. No reading loads it; what it needs besides the node is the extra `learn`."""

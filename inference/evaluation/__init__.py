"""Offline: how good a model is, with n and interval. No reading loads it; what it needs besides the node is the extra `learn`."""

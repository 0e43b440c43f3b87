"""What published guidelines say of nodules: pure functions over stated inputs, which abstain where an input is missing."""

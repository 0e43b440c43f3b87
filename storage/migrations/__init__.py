"""Forward-only migrations of the ledger; run by `storage.database`, in a row they lead to `storage.tables`."""

"""Spool, journal, ledger, leases and outbox: payloads that it does not understand, kept and never lost."""

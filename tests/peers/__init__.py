"""Peers that are not ours: a PACS, receivers, validators, an HL7 parser; and the tests that need them."""

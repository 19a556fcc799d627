"""A bank to talk to while developing and testing: standard library only, nothing of Kassa."""

"""Couriers: useful and untrusted carriers of hints and reports."""

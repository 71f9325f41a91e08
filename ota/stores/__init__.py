"""Stores: where signed bytes lie for devices to fetch."""

"""Playbooks on the device: verified, journaled, run step by step, reported. See ``runner.py``."""

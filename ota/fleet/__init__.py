"""The registry: devices, labels, selectors, and what devices signed."""

"""What may run, and who says so. Imports nothing of ota."""

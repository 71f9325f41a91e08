"""``ota.toml`` and the environment: read here, and nowhere else."""

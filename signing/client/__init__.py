"""The one TUF client, which devices, operators and ``ota-agent tuf`` share."""

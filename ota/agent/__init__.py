"""The device: verifies, installs, reports. Imports none of typer, boto3, paramiko, rich."""

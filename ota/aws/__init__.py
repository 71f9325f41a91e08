"""What every adapter of AWS shares: clients as boto3 configures them, and its errors in our words."""

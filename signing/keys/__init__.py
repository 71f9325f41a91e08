"""Private keys by URI: files, PKCS#11 tokens, AWS KMS, signing commands."""

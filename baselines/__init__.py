"""What SEVEN is compared with: one file a method, each a score."""

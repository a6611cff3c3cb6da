"""What comes from outside and is wrong, or means harm: every reader names it, and goes on."""

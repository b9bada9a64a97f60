"""What people call: the command line, the pytest plugin, what they print."""

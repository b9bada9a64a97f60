"""What a derivative must do whatever its value is: checks beside the numbers."""

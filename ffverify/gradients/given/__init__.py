"""What a caller gives: inputs to be drawn, and derivatives as people have them."""

"""Truth: textbook definitions, exact values and derivatives with a bound on their own error."""

"""What a report says beside the numbers: how far a fault extends, and how to see it again."""

"""ffverify."""

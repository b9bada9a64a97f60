"""Watch the custom derivatives that other code runs, and check them afterwards at the inputs they had."""

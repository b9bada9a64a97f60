"""Reports in files: JSON Lines, JUnit, and a page for a browser, of any run and from any number of parts."""

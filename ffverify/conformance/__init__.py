"""Conformance: claims of the chapter, tried on backends."""

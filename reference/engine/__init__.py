"""The engine: values that are traced, primitives and their rules, transformations."""

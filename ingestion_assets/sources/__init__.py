"""One file, or one small package, for each family of sources. They never import one another."""

"""How much a union takes: names, depths, sizes, numbers of things."""

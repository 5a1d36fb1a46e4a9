"""Half precision written into the graph, and what a graph computes."""

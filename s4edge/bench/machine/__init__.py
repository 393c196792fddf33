"""What runs the graphs, and how it is doing: sensors, load, memory, cores."""

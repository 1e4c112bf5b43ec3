"""Pages of trained runs: the data first (run files, states, passages), then SVG from it, then one HTML file."""

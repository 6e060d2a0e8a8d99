"""HTML, SVG and figures; no files."""

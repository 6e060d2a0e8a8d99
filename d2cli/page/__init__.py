"""HTML pages, figures and thumbnails. Knows no files and no paths."""

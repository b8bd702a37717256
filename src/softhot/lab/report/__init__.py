"""One HTML page that shows a study."""

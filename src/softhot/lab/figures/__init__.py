"""Pictures of what was measured, drawn by Plotly."""

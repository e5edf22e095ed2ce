"""What figures show, as plain values, and how matplotlib and plotly draw it."""

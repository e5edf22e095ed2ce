"""The report's blocks, and how they become a page, Markdown and LaTeX."""

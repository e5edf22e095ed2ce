"""What inputs without labels say about layers, and fits of layers to what the dense network puts out."""

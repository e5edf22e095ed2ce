"""What compression keeps of ResNet-20's accuracy, by method, FLOPs and epochs: cells that run one after the other."""

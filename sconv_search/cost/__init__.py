"""What a network costs: operations counted on the network as built, and times by the clock."""

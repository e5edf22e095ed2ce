"""The parts of a report, from data to blocks, in the order of the questions that they answer."""

"""How fast the network, the predictor and the node are, with baselines in the same run."""

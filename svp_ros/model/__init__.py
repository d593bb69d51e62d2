"""The network: shared CNN + Swin encoder, disparity attention, Swin decoder, heads."""

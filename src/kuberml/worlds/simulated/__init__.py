"""Virtual time, modelled devices and links, injected faults, real training."""

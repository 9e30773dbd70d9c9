"""On the air: samples ↔ symbols around a `commin.link.Link`: frames, impairments, synchronisation, OFDM, SigMF."""

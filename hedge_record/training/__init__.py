"""Training: Muon and AdamW, the schedule, late quantisation-aware training, EMA, checkpoints."""

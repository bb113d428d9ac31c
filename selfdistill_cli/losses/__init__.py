"""What a method may ask of predictions: supervised losses, distillation, signals; for labels and for answers."""

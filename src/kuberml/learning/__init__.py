"""Data, partitions, models, extractors, training, evaluation, distillation; framework-free at the seam."""

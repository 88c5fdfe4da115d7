"""The checks of a received invoice (Z01-Z57), by theme. ``verdict.judge`` runs them."""

"""Mathematics of linear systems, in numpy and scipy: knows neither torch nor the model."""

"""From images and a recipe to a trained, evaluated model in an output folder."""

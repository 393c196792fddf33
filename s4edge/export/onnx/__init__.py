"""From a model to graphs: ONNX, standard operators only."""

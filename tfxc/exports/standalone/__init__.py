"""Programs that are copied into exports as they are, and run there without tfxc or TensorFlow."""

"""What the documentation site is built with: the reference pages and the picture of the layers."""

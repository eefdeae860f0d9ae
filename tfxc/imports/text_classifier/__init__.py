"""Models and configs of text_classifier_torch (https://github.com/stanleylsx)."""

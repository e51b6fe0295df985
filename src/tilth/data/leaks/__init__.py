"""What a model will be measured by, found in what it is trained on."""

"""What currencies are worth: where rates come from, and what follows from them."""

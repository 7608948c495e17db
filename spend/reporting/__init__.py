"""What was spent, by groups, in any currency."""

"""Whether an explanation may be believed: what an attribution is held against, and the rule of the card."""

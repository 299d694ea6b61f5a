"""An independent validator: checks what it is asked about by itself, and signs what it found."""
